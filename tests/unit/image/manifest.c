/* Manifests, indexes and configurations: shapes, bounds, platforms. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/alloc.h"
#include "image/pull/manifest.h"

#define D0     "sha256:0000000000000000000000000000000000000000000000000000000000000000"
#define D1     "sha256:1111111111111111111111111111111111111111111111111111111111111111"
#define D2     "sha256:2222222222222222222222222222222222222222222222222222222222222222"
#define CONFIG "\"config\":{\"digest\":\"" D0 "\",\"size\":2}"
#define LAYER  "{\"digest\":\"" D1 "\",\"size\":7}"

static int parse(const char *text, const char *type, struct manifest *m, struct cc_err *err)
{
        return manifest_parse(text, strlen(text), type, m, err);
}

static void test_kind_from_body_header_or_shape(void **state)
{
        static const struct {
                const char *text, *type;
                enum manifest_kind want;
        } rows[] = {
                { "{" CONFIG ",\"layers\":[" LAYER "]}", NULL, MANIFEST_IMAGE },
                { "{" CONFIG ",\"layers\":[" LAYER "]}", "text/plain", MANIFEST_IMAGE },
                { "{\"mediaType\":\"application/vnd.docker.distribution.manifest.v2+json\"," CONFIG
                  ",\"layers\":[" LAYER "]}",
                  "application/vnd.oci.image.index.v1+json", MANIFEST_IMAGE },
                { "{\"manifests\":[" LAYER "]}", NULL, MANIFEST_INDEX },
                { "{\"manifests\":[" LAYER "]}",
                  "application/vnd.docker.distribution.manifest.list.v2+json", MANIFEST_INDEX },
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                MANIFEST struct manifest m = { 0 };
                struct cc_err err = CC_ERR_INIT;

                if (parse(rows[i].text, rows[i].type, &m, &err) < 0)
                        fail_msg("%zu: %s", i, err.msg);
                assert_int_equal(m.kind, rows[i].want);
        }
}

static void test_refused(void **state)
{
        static const struct {
                const char *text;
                enum cc_class class;
                const char *why;
        } rows[] = {
                { "", CC_INVALID, "" },
                { "[]", CC_INVALID, "not a JSON object" },
                { "{}", CC_INVALID, "neither" },
                { "{" CONFIG ",\"layers\":[]}", CC_INVALID, "no layers" },
                { "{" CONFIG ",\"layers\":[7]}", CC_INVALID, "layer 0" },
                { "{" CONFIG ",\"layers\":[{\"digest\":\"md5:1\",\"size\":1}]}", CC_INVALID,
                  "sha256" },
                { "{" CONFIG ",\"layers\":[{\"digest\":\"" D1 "\",\"size\":-1}]}", CC_INVALID,
                  "size" },
                { "{" CONFIG ",\"layers\":[{\"digest\":\"" D1 "\"}]}", CC_INVALID, "size" },
                { "{" CONFIG ",\"layers\":[{\"digest\":\"" D1 "\",\"size\":\"1\"}]}", CC_INVALID,
                  "size" },
                { "{\"layers\":[" LAYER "]}", CC_INVALID, "config" },
                { "{\"schemaVersion\":1,\"fsLayers\":[{}]}", CC_UNSUPPORTED, "schema 1" },
                { "{\"manifests\":[]}", CC_INVALID, "no manifests" },
                { "{\"artifactType\":\"application/vnd.cocoonstack.os-image.v1+json\"," CONFIG
                  ",\"layers\":[" LAYER "]}",
                  CC_UNSUPPORTED, "this is a disk image artifact" },
                { "{\"artifactType\":\"application/vnd.cocoonstack.snapshot.v1+json\"," CONFIG
                  ",\"layers\":[" LAYER "]}",
                  CC_UNSUPPORTED, "snapshot" },
                { "{" CONFIG ",\"layers\":[{\"mediaType\":"
                  "\"application/vnd.cocoonstack.disk.qcow2\",\"digest\":\"" D1 "\",\"size\":7}]}",
                  CC_UNSUPPORTED, "this is a disk image artifact" },
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                struct manifest m = { 0 };
                struct cc_err err = CC_ERR_INIT;

                assert_int_equal(parse(rows[i].text, NULL, &m, &err), -(int)rows[i].class);
                if (!strstr(err.msg, rows[i].why))
                        fail_msg("%zu: %s", i, err.msg);
                assert_null(m.layers);
        }
}

static void test_layer_limit(void **state)
{
        for (size_t n = LAYERS_MAX; n <= LAYERS_MAX + 1; n++) {
                CC_BUF struct cc_buf b = { 0 };
                MANIFEST struct manifest m = { 0 };

                cc_buf_str(&b, "{" CONFIG ",\"layers\":[" LAYER);
                for (size_t i = 1; i < n; i++)
                        cc_buf_str(&b, "," LAYER);
                cc_buf_str(&b, "]}");
                assert_int_equal(parse(b.data, NULL, &m, NULL), n > LAYERS_MAX ? -CC_INVALID : 0);
        }
}

static void test_choice_of_platform(void **state)
{
        CC_FREE char *text = xasprintf(
                "{\"manifests\":["
                "{\"digest\":\"" D0 "\",\"size\":1,\"platform\":{\"os\":\"unknown\","
                "\"architecture\":\"unknown\"}},"
                "{\"digest\":\"" D0 "\",\"size\":1,\"platform\":{\"os\":\"windows\","
                "\"architecture\":\"%s\"}},"
                "{\"digest\":\"" D1 "\",\"size\":1,\"platform\":{\"os\":\"linux\","
                "\"architecture\":\"%s\"}},"
                "{\"digest\":\"" D2 "\",\"size\":1,\"platform\":{\"os\":\"linux\","
                "\"architecture\":\"%s\"}}]}",
                manifest_architecture(), manifest_architecture(), manifest_architecture());
        const char *none = "{\"manifests\":[{\"digest\":\"" D0 "\",\"size\":1,\"platform\":"
                           "{\"os\":\"linux\",\"architecture\":\"s390x\"}},"
                           "{\"digest\":\"" D0 "\",\"size\":1,\"platform\":{\"os\":\"unknown\","
                           "\"architecture\":\"unknown\"}}]}";
        const struct index_entry *e = NULL;
        struct cc_err err = CC_ERR_INIT;
        MANIFEST struct manifest m = { 0 };

        assert_int_equal(parse(text, NULL, &m, &err), 0);
        assert_int_equal(manifest_choose(&m, &e, &err), 0);
        assert_string_equal(e->descriptor.digest, D1);
        manifest_clear(&m);
        assert_int_equal(parse(none, NULL, &m, &err), 0);
        assert_int_equal(manifest_choose(&m, &e, &err), -CC_INVALID);
        assert_non_null(strstr(err.msg, "(it has: linux/s390x)"));
}

static void test_configuration(void **state)
{
        IMAGE_CONFIG struct image_config c = { 0 };
        struct cc_err err = CC_ERR_INIT;
        static const char good[] =
                "{\"rootfs\":{\"diff_ids\":[\"" D1 "\"]},\"config\":{\"Labels\":{"
                "\"cocoon.kernel\":\"/boot/k\",\"cocoon.initrd\":\"/boot/i\"}}}";
        static const char bad[] = "{\"rootfs\":{\"diff_ids\":[\"sha256:zz\"]}}";

        assert_int_equal(image_config_parse(good, strlen(good), 1, &c, &err), 0);
        assert_string_equal(c.diff_ids.v[0], D1);
        assert_string_equal(c.kernel, "/boot/k");
        image_config_clear(&c);
        assert_int_equal(image_config_parse(good, strlen(good), 2, &c, &err), -CC_INVALID);
        assert_int_equal(image_config_parse(bad, strlen(bad), 1, &c, &err), -CC_INVALID);
        assert_int_equal(image_config_parse("{}", 2, 3, &c, &err), 0);
        assert_int_equal(c.diff_ids.len, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_kind_from_body_header_or_shape),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_layer_limit),
                cmocka_unit_test(test_choice_of_platform),
                cmocka_unit_test(test_configuration),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

/* image import: tar layers, streams, OCI layouts, docker archives, and what is refused. */
#include "support.h"

#include <fcntl.h>

static int import(struct world *w, const char *name, const char *const *files, size_t n,
                  struct image_record *ret, struct cc_err *err)
{
        char kind[16];

        return image_import(&w->env, name, files, n, kind, ret, err);
}

static char *write_file(const struct world *w, const char *name, const struct cc_buf *b)
{
        char *path = xasprintf("%s/%s", w->dir, name);
        struct cc_err err = CC_ERR_INIT;

        assert_ok(cc_publish(path, b->data ? b->data : "", b->len, 0600, &err), &err);
        return path;
}

static void assert_import_fails(struct world *w, const char *path, enum cc_class class,
                                const char *text)
{
        IMAGE_RECORD struct image_record record = IMAGE_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;

        assert_int_equal(import(w, "mine", &path, 1, &record, &err), -(int)class);
        if (!strstr(err.msg, text))
                fail_msg("\"%s\" is not in: %s", text, err.msg);
        assert_nothing_left(w);
}

static void test_tar_layers(void **state)
{
        struct world *w = *state;
        CC_BUF struct cc_buf base = { 0 };
        CC_BUF struct cc_buf top = { 0 };
        CC_FREE char *one = NULL;
        CC_FREE char *two = NULL;
        IMAGE_RECORD struct image_record record = IMAGE_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *digest = NULL;
        CC_FREE char *joined = NULL;
        char hex[DIGEST_HEX_LEN + 1];

        base_layer(&base, 5000, 1);
        tar_file(&top, "etc", "top");
        tar_end(&top);
        one = write_file(w, "one.tar", &base);
        two = write_file(w, "two.tar", &top);
        assert_ok(import(w, "mine", (const char *const[]){ one, two }, 2, &record, &err), &err);
        assert_int_equal(record.layers.len, 2);
        digest = digest_text_of(&base);
        assert_string_equal(image_layer_at(&record, 0)->digest, digest);
        assert_string_equal(image_layer_at(&record, 0)->diff_id, digest);
        joined = xasprintf("%s%s", image_layer_at(&record, 0)->digest + 7,
                           image_layer_at(&record, 1)->digest + 7);
        digest_of(joined, strlen(joined), hex);
        assert_string_equal(record.manifest_digest + 7, hex);
        assert_int_equal(count_entries(w, "oci/blobs"), 2);
        assert_int_equal(count_entries(w, "oci/temp"), 0);
}

static void test_gzip_is_unwrapped(void **state)
{
        struct world *w = *state;
        CC_BUF struct cc_buf tar = { 0 };
        CC_BUF struct cc_buf gz = { 0 };
        CC_FREE char *path = NULL;
        CC_FREE char *digest = NULL;
        IMAGE_RECORD struct image_record record = IMAGE_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;

        base_layer(&tar, 5000, 1);
        compress_buf(&gz, tar.data, tar.len, ARCHIVE_FILTER_GZIP);
        path = write_file(w, "layer.tar.gz", &gz);
        assert_int_equal(import(w, "mine", (const char *const[]){ path, path }, 2, &record, &err),
                         -CC_INVALID);
        assert_string_equal(err.msg, "stream imports accept exactly one file, got 2");
        assert_ok(import(w, "mine", (const char *const[]){ path }, 1, &record, &err), &err);
        digest = digest_text_of(&tar);
        assert_string_equal(image_layer_at(&record, 0)->digest, digest);
}

static void test_standard_input(void **state)
{
        struct world *w = *state;
        CC_BUF struct cc_buf tar = { 0 };
        CC_FREE char *path = NULL;
        IMAGE_RECORD struct image_record record = IMAGE_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;
        int saved = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
        int fd;

        base_layer(&tar, 5000, 1);
        path = write_file(w, "in", &tar);
        fd = open(path, O_RDONLY);
        assert_true(fd >= 0 && dup2(fd, STDIN_FILENO) == STDIN_FILENO);
        close(fd);
        assert_ok(import(w, "mine", NULL, 0, &record, &err), &err);
        if (saved >= 0) {
                (void)dup2(saved, STDIN_FILENO);
                close(saved);
        }
}

static void test_refused_inputs(void **state)
{
        struct world *w = *state;
        CC_BUF struct cc_buf text = { 0 };
        CC_BUF struct cc_buf cut = { 0 };
        CC_FREE char *path = NULL;

        cc_buf_str(&text, "hello");
        path = write_file(w, "disk", &text);
        assert_import_fails(w, path, CC_INVALID, "(expected qcow2 or tar)");
        base_layer(&cut, 100000, 1);
        cut.len = 60000;
        free(path);
        path = write_file(w, "disk", &cut);
        assert_import_fails(w, path, CC_INVALID, "");
        assert_import_fails(w, "/nonexistent/file", CC_NOT_FOUND, "/nonexistent/file");
        assert_import_fails(w, w->dir, CC_INVALID, "is a directory but no image layout");
}

static void test_names(void **state)
{
        struct world *w = *state;
        static const char *const rows[] = {
                "",
                "a b",
                "a\tb",
                "a\xc3\xa4",
                "https://h/x",
                "sha256:12",
                "0123456789ab",
                "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        };
        CC_BUF struct cc_buf tar = { 0 };
        CC_FREE char *path = NULL;

        base_layer(&tar, 10, 1);
        path = write_file(w, "x.tar", &tar);
        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                IMAGE_RECORD struct image_record record = IMAGE_RECORD_INIT;
                struct cc_err err = CC_ERR_INIT;

                if (import(w, rows[i], (const char *const[]){ path }, 1, &record, &err) !=
                    -CC_INVALID)
                        fail_msg("accepted \"%s\"", rows[i]);
        }
        assert_nothing_left(w);
}

static void tar_blob(struct cc_buf *out, const struct cc_buf *blob, char digest[72])
{
        char hex[DIGEST_HEX_LEN + 1];
        CC_FREE char *name = NULL;

        digest_of(blob->data, blob->len, hex);
        (void)snprintf(digest, 72, "sha256:%s", hex);
        name = xasprintf("blobs/sha256/%s", hex);
        tar_add(out, name, '0', blob->data, blob->len);
}

/* An OCI archive with two tags of one image. `break_layer`: its bytes do not fit its digest. */
static void oci_archive(struct cc_buf *out, bool break_layer, char manifest_digest[72])
{
        CC_BUF struct cc_buf tar = { 0 };
        CC_BUF struct cc_buf gz = { 0 };
        CC_BUF struct cc_buf config = { 0 };
        CC_BUF struct cc_buf manifest = { 0 };
        CC_BUF struct cc_buf index = { 0 };
        CC_FREE char *diff = NULL;
        char layer[72];
        char conf[72];
        size_t at;

        base_layer(&tar, 20000, 1);
        diff = digest_text_of(&tar);
        compress_buf(&gz, tar.data, tar.len, ARCHIVE_FILTER_GZIP);
        at = out->len + 512 + gz.len / 2;
        tar_blob(out, &gz, layer);
        if (break_layer)
                out->data[at] ^= 1;
        cc_buf_printf(&config, "{\"rootfs\":{\"diff_ids\":[\"%s\"]}}", diff);
        tar_blob(out, &config, conf);
        cc_buf_printf(&manifest,
                      "{\"schemaVersion\":2,\"config\":{\"digest\":\"%s\",\"size\":%zu},"
                      "\"layers\":[{\"digest\":\"%s\",\"size\":%zu}]}",
                      conf, config.len, layer, gz.len);
        tar_blob(out, &manifest, manifest_digest);
        cc_buf_printf(&index,
                      "{\"schemaVersion\":2,\"manifests\":["
                      "{\"digest\":\"%s\",\"size\":%zu,\"annotations\":"
                      "{\"org.opencontainers.image.ref.name\":\"v1\"}},"
                      "{\"digest\":\"%s\",\"size\":%zu,\"annotations\":"
                      "{\"org.opencontainers.image.ref.name\":\"v2\"}}]}",
                      manifest_digest, manifest.len, manifest_digest, manifest.len);
        tar_file(out, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");
        tar_add(out, "index.json", '0', index.data, index.len);
        tar_file(out, "../escape", "x");
        tar_file(out, "/etc/absolute", "x");
        tar_end(out);
}

static void test_oci_archive(void **state)
{
        struct world *w = *state;
        CC_BUF struct cc_buf archive = { 0 };
        CC_BUF struct cc_buf gz = { 0 };
        CC_FREE char *path = NULL;
        CC_FREE char *packed = NULL;
        IMAGE_RECORD struct image_record record = IMAGE_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;
        char digest[72];

        oci_archive(&archive, false, digest);
        path = write_file(w, "image.tar", &archive);
        assert_int_equal(import(w, "mine", (const char *const[]){ path }, 1, &record, &err),
                         -CC_AMBIGUOUS);
        assert_non_null(strstr(err.msg, "2 images (v1, v2)"));
        assert_nothing_left(w);
        assert_ok(import(w, "mine:v2", (const char *const[]){ path }, 1, &record, &err), &err);
        assert_string_equal(record.manifest_digest, digest);
        assert_int_equal(count_entries(w, "oci/temp"), 0);
        image_record_clear(&record);
        compress_buf(&gz, archive.data, archive.len, ARCHIVE_FILTER_GZIP);
        packed = write_file(w, "image.tar.gz", &gz);
        assert_ok(import(w, "v1", (const char *const[]){ packed }, 1, &record, &err), &err);
        assert_string_equal(record.manifest_digest, digest);
        assert_int_equal(count_entries(w, "oci/blobs"), 1);
}

static void test_damaged_oci_archive(void **state)
{
        struct world *w = *state;
        CC_BUF struct cc_buf archive = { 0 };
        CC_FREE char *path = NULL;
        IMAGE_RECORD struct image_record record = IMAGE_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;
        char digest[72];

        oci_archive(&archive, true, digest);
        path = write_file(w, "image.tar", &archive);
        assert_int_equal(import(w, "x:v1", (const char *const[]){ path }, 1, &record, &err),
                         -CC_CORRUPT);
        assert_nothing_left(w);
}

static void test_docker_archive(void **state)
{
        struct world *w = *state;
        CC_BUF struct cc_buf layer = { 0 };
        CC_BUF struct cc_buf archive = { 0 };
        CC_FREE char *path = NULL;
        CC_FREE char *digest = NULL;
        CC_FREE char *config = NULL;
        IMAGE_RECORD struct image_record record = IMAGE_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;

        base_layer(&layer, 20000, 1);
        digest = digest_text_of(&layer);
        config = xasprintf("{\"rootfs\":{\"diff_ids\":[\"%s\"]}}", digest);
        tar_add(&archive, "abc/layer.tar", '0', layer.data, layer.len);
        tar_file(&archive, "conf.json", config);
        tar_file(&archive, "manifest.json",
                 "[{\"Config\":\"conf.json\",\"RepoTags\":[\"a:b\"],\"Layers\":[\"abc/"
                 "layer.tar\"]}]");
        tar_end(&archive);
        path = write_file(w, "saved.tar", &archive);
        assert_ok(import(w, "mine", (const char *const[]){ path }, 1, &record, &err), &err);
        assert_string_equal(image_layer_at(&record, 0)->digest, digest);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_tar_layers, world_setup, world_teardown),
                cmocka_unit_test_setup_teardown(test_gzip_is_unwrapped, world_setup,
                                                world_teardown),
                cmocka_unit_test_setup_teardown(test_standard_input, world_setup, world_teardown),
                cmocka_unit_test_setup_teardown(test_refused_inputs, world_setup, world_teardown),
                cmocka_unit_test_setup_teardown(test_names, world_setup, world_teardown),
                cmocka_unit_test_setup_teardown(test_oci_archive, world_setup, world_teardown),
                cmocka_unit_test_setup_teardown(test_damaged_oci_archive, world_setup,
                                                world_teardown),
                cmocka_unit_test_setup_teardown(test_docker_archive, world_setup, world_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

/* image pull against a registry that misbehaves in every known way. */
#include "support.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "base/timeutil.h"
#include "double/registry.h"

#define OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define OCI_INDEX    "application/vnd.oci.image.index.v1+json"

/* An image under construction: layers are added bottom to top, then published under a tag. */
struct build {
        struct double_registry *r;
        struct cc_strv blobs, diff_ids;
        struct cc_buf layers;
        char *manifest_digest;
        size_t manifest_len;
};

static void build_free(struct build *b)
{
        cc_strv_free(&b->blobs);
        cc_strv_free(&b->diff_ids);
        cc_buf_free(&b->layers);
        free(b->manifest_digest);
}

static void add_blob(struct build *b, const struct cc_buf *blob, const struct cc_buf *tar)
{
        const char *digest = double_registry_blob(b->r, "r/i", blob->data, blob->len);
        CC_FREE char *diff = digest_text_of(tar);

        cc_strv_add(&b->blobs, digest);
        cc_strv_add(&b->diff_ids, diff);
        cc_buf_printf(&b->layers,
                      "%s{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\","
                      "\"digest\":\"%s\",\"size\":%zu}",
                      b->layers.len ? "," : "", digest, blob->len);
}

static void add_layer(struct build *b, const struct cc_buf *tar, int filter)
{
        CC_BUF struct cc_buf blob = { 0 };

        if (filter == ARCHIVE_FILTER_NONE) {
                add_blob(b, tar, tar);
                return;
        }
        compress_buf(&blob, tar->data, tar->len, filter);
        add_blob(b, &blob, tar);
}

static void publish(struct build *b, const char *tag, const char *media_type)
{
        CC_BUF struct cc_buf config = { 0 };
        CC_BUF struct cc_buf text = { 0 };
        const char *digest;

        cc_buf_str(&config, "{\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[");
        for (size_t i = 0; i < b->diff_ids.len; i++)
                cc_buf_printf(&config, "%s\"%s\"", i ? "," : "", b->diff_ids.v[i]);
        cc_buf_str(&config, "]}}");
        digest = double_registry_blob(b->r, "r/i", config.data, config.len);
        cc_buf_printf(
                &text,
                "{\"schemaVersion\":2,%s\"config\":{\"mediaType\":"
                "\"application/vnd.oci.image.config.v1+json\",\"digest\":\"%s\",\"size\":%zu},"
                "\"layers\":[%s]}",
                media_type ? "\"mediaType\":\"" OCI_MANIFEST "\"," : "", digest, config.len,
                b->layers.data ? b->layers.data : "");
        b->manifest_digest = xstrdup(double_registry_manifest(
                b->r, "r/i", tag, media_type ? media_type : "", text.data));
        b->manifest_len = text.len;
}

/* The usual image: one base layer of `size` bytes of noise. */
static void simple_image(struct double_registry *r, struct build *b, size_t size)
{
        CC_BUF struct cc_buf tar = { 0 };

        *b = (struct build){ .r = r };
        base_layer(&tar, size, 1);
        add_layer(b, &tar, ARCHIVE_FILTER_GZIP);
        publish(b, "v1", OCI_MANIFEST);
}

static int pull(struct world *w, const struct double_registry *r, const char *target,
                bool *ret_unchanged, struct cc_err *err)
{
        CC_FREE char *ref = xasprintf("127.0.0.1:%d/r/i%s", r->port, target);
        IMAGE_RECORD struct image_record record = IMAGE_RECORD_INIT;

        return image_pull(&w->env, ref, false, &record, ret_unchanged, err);
}

#define assert_pull_ok(w, r)                                                                       \
        do {                                                                                       \
                struct cc_err e_ = CC_ERR_INIT;                                                    \
                assert_ok(pull(w, r, ":v1", NULL, &e_), &e_);                                      \
                assert_int_equal(count_entries(w, "oci/temp"), 0);                                 \
        } while (0)

#define assert_pull_fails(w, r, class, text)                                                       \
        do {                                                                                       \
                struct cc_err e_ = CC_ERR_INIT;                                                    \
                assert_int_equal(pull(w, r, ":v1", NULL, &e_), -(class));                          \
                if (!strstr(e_.msg, text))                                                         \
                        fail_msg("\"%s\" is not in: %s", text, e_.msg);                            \
                assert_null(strchr(e_.msg, '\n'));                                                 \
                assert_nothing_left(w);                                                            \
        } while (0)

#define WITH_REGISTRY(r, b, size)                                                                  \
        static struct double_registry r;                                                           \
        CC_CLEANUP(build_free) struct build b;                                                     \
        memset(&r, 0, sizeof(r));                                                                  \
        double_registry_start(&r, "127.0.0.1");                                                    \
        simple_image(&r, &b, size)

static void test_layers_of_all_compressions(void **state)
{
        struct world *w = *state;
        static struct double_registry r;
        CC_CLEANUP(build_free) struct build b = { .r = &r };
        CC_BUF struct cc_buf base = { 0 };
        CC_BUF struct cc_buf upper = { 0 };
        CC_BUF struct cc_buf top = { 0 };
        IMAGE_RECORD struct image_record record = IMAGE_RECORD_INIT;
        struct image_files files = { 0 };
        CC_FREE char *ref = NULL;
        CC_FREE char *text = NULL;
        struct cc_err err = CC_ERR_INIT;
        bool unchanged = true;
        int blobs;

        memset(&r, 0, sizeof(r));
        double_registry_start(&r, "127.0.0.1");
        base_layer(&base, 200000, 1);
        tar_add(&upper, "boot/", '5', NULL, 0);
        tar_file(&upper, "boot/vmlinuz-6.1.0-10", "kernel ten");
        tar_file(&upper, "boot/initrd.img-6.1.0-10", "initrd ten");
        tar_end(&upper);
        tar_file(&top, "etc", "plain");
        tar_end(&top);
        add_layer(&b, &base, ARCHIVE_FILTER_GZIP);
        add_layer(&b, &upper, ARCHIVE_FILTER_ZSTD);
        add_layer(&b, &top, ARCHIVE_FILTER_NONE);
        publish(&b, "v1", OCI_MANIFEST);

        ref = xasprintf("127.0.0.1:%d/r/i:v1", r.port);
        assert_ok(image_pull(&w->env, ref, false, &record, &unchanged, &err), &err);
        assert_false(unchanged);
        assert_string_equal(record.manifest_digest, b.manifest_digest);
        assert_int_equal(record.layers.len, 3);
        for (size_t i = 0; i < 3; i++) {
                assert_string_equal(image_layer_at(&record, i)->digest, b.blobs.v[i]);
                assert_string_equal(image_layer_at(&record, i)->diff_id, b.diff_ids.v[i]);
                assert_non_null(image_layer_at(&record, i)->erofs_sha256);
        }
        assert_string_equal(record.kernel_layer, b.blobs.v[1]);
        assert_ok(image_files(&w->config, IMAGE_OCI, &record, false, &files, &err), &err);
        assert_int_equal(files.layers.len, 3);
        assert_ok(cc_read_file(files.kernel, 100, &text, NULL, &err), &err);
        assert_string_equal(text, "kernel ten");
        image_files_clear(&files);
        assert_int_equal(count_entries(w, "oci/temp"), 0);

        blobs = atomic_load(&r.seen.blobs);
        image_record_clear(&record);
        assert_ok(image_pull(&w->env, ref, false, &record, &unchanged, &err), &err);
        assert_true(unchanged);
        assert_int_equal(atomic_load(&r.seen.blobs), blobs);
        double_registry_stop(&r);
}

static void test_bearer_token_and_its_refresh(void **state)
{
        struct world *w = *state;

        WITH_REGISTRY(r, b, 1000);
        r.need_token = true;
        r.expire_token = true;
        assert_pull_ok(w, &r);
        assert_true(atomic_load(&r.seen.tokens) >= 2);
        double_registry_stop(&r);
}

static void write_credentials(const struct world *w, int port, const char *user)
{
        CC_FREE char *dir = xasprintf("%s/docker", w->dir);
        CC_FREE char *path = xasprintf("%s/config.json", dir);
        char auth[256];
        CC_FREE char *text = NULL;
        struct cc_err err = CC_ERR_INIT;
        static const char digits[] =
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        size_t n = strlen(user);
        size_t o = 0;

        for (size_t i = 0; i < n; i += 3) {
                unsigned v = (unsigned char)user[i] << 16;

                v |= i + 1 < n ? (unsigned)(unsigned char)user[i + 1] << 8 : 0;
                v |= i + 2 < n ? (unsigned char)user[i + 2] : 0;
                auth[o++] = digits[v >> 18];
                auth[o++] = digits[v >> 12 & 63];
                auth[o++] = i + 1 < n ? digits[v >> 6 & 63] : '=';
                auth[o++] = i + 2 < n ? digits[v & 63] : '=';
        }
        auth[o] = '\0';
        text = xasprintf("{\"auths\":{\"127.0.0.1:%d\":{\"auth\":\"%s\"}}}", port, auth);
        (void)setenv("DOCKER_CONFIG", dir, 1);
        assert_ok(cc_mkdir_p(dir, 0700, &err), &err);
        assert_ok(cc_publish(path, text, strlen(text), 0600, &err), &err);
}

static void test_basic_credentials(void **state)
{
        struct world *w = *state;

        WITH_REGISTRY(r, b, 1000);
        r.need_basic = true;
        r.user = "joe:secret pass";
        assert_pull_fails(w, &r, CC_AUTH, "needs a user and a password");
        write_credentials(w, r.port, "joe:wrong");
        assert_pull_fails(w, &r, CC_AUTH, "status 401");
        write_credentials(w, r.port, "joe:secret pass");
        assert_pull_ok(w, &r);
        double_registry_stop(&r);
}

static void test_token_service_checks_credentials(void **state)
{
        struct world *w = *state;

        WITH_REGISTRY(r, b, 1000);
        r.need_token = true;
        r.user = "joe:pw";
        assert_pull_fails(w, &r, CC_AUTH, "refuses the stored credentials");
        write_credentials(w, r.port, "joe:pw");
        assert_pull_ok(w, &r);
        double_registry_stop(&r);
}

static void test_credentials_stay_at_home(void **state)
{
        struct world *w = *state;
        static struct double_registry cdn;
        CC_CLEANUP(build_free) struct build other;
        CC_FREE char *where = NULL;

        WITH_REGISTRY(r, b, 1000);
        memset(&cdn, 0, sizeof(cdn));
        double_registry_start(&cdn, "127.0.0.2");
        simple_image(&cdn, &other, 1000);
        where = xasprintf("http://127.0.0.2:%d", cdn.port);
        r.redirect = where;
        r.need_token = true;
        assert_pull_ok(w, &r);
        assert_true(atomic_load(&cdn.seen.blobs) > 0);
        assert_int_equal(atomic_load(&cdn.seen.authorised), 0);
        assert_true(atomic_load(&r.seen.authorised) > 0);
        double_registry_stop(&cdn);
        double_registry_stop(&r);
}

static void test_retry_after_is_honoured(void **state)
{
        struct world *w = *state;
        int64_t start = cc_monotonic();

        WITH_REGISTRY(r, b, 1000);
        r.busy = 1;
        r.busy_status = 429;
        r.retry_after = 1;
        assert_pull_ok(w, &r);
        assert_true(cc_monotonic() - start >= CC_NSEC_PER_SEC);
        double_registry_stop(&r);
}

static void test_tries_end(void **state)
{
        struct world *w = *state;

        WITH_REGISTRY(r, b, 1000);
        r.busy = 1000;
        r.busy_status = 503;
        assert_pull_fails(w, &r, CC_NETWORK, "status 503");
        assert_int_equal(atomic_load(&r.seen.blobs), 3);
        double_registry_stop(&r);
}

static void test_long_waits_are_not_obeyed(void **state)
{
        struct world *w = *state;

        WITH_REGISTRY(r, b, 1000);
        r.busy = 1000;
        r.busy_status = 429;
        r.retry_after = 100000;
        assert_pull_fails(w, &r, CC_NETWORK, "status 429");
        assert_int_equal(atomic_load(&r.seen.blobs), 1);
        double_registry_stop(&r);
}

static void test_cut_download_resumes(void **state)
{
        struct world *w = *state;

        WITH_REGISTRY(r, b, 3000000);
        r.cut = 2;
        r.cut_at = 1200000;
        assert_pull_ok(w, &r);
        assert_int_equal(atomic_load(&r.seen.ranges), 2);
        /* Nothing is sent twice: layer and configuration, a little noise in the compression. */
        assert_true(atomic_load(&r.seen.blob_bytes) < 3100000);
        double_registry_stop(&r);
}

static void test_cut_download_without_ranges(void **state)
{
        struct world *w = *state;

        WITH_REGISTRY(r, b, 3000000);
        r.cut = 2;
        r.cut_at = 1200000;
        r.no_range = true;
        assert_pull_ok(w, &r);
        assert_true(atomic_load(&r.seen.blob_bytes) > 4000000);
        double_registry_stop(&r);
}

static void test_wrong_range_is_refused(void **state)
{
        struct world *w = *state;

        WITH_REGISTRY(r, b, 3000000);
        r.cut = 1;
        r.cut_at = 1200000;
        r.wrong_range = true;
        assert_pull_fails(w, &r, CC_NETWORK, "another range");
        double_registry_stop(&r);
}

static void test_stall_ends(void **state)
{
        struct world *w = *state;

        WITH_REGISTRY(r, b, 3000000);
        r.stall = 1000;
        r.stall_at = 1;
        assert_pull_fails(w, &r, CC_TIMEOUT, "bytes/s for 1 s");
        double_registry_stop(&r);
}

static void test_one_stall_is_survived(void **state)
{
        struct world *w = *state;

        WITH_REGISTRY(r, b, 3000000);
        r.stall_at = 1000;
        r.stall = 1;
        assert_pull_ok(w, &r);
        double_registry_stop(&r);
}

static void test_wrong_digest(void **state)
{
        struct world *w = *state;

        WITH_REGISTRY(r, b, 100000);
        r.corrupt = true;
        assert_pull_fails(w, &r, CC_CORRUPT, "sha256:");
        double_registry_stop(&r);
}

/* The configuration is intact, so that the layer's own check is what fails. */
static void test_wrong_layer_digest(void **state)
{
        struct world *w = *state;
        CC_BUF struct cc_buf tar = { 0 };
        CC_BUF struct cc_buf gz = { 0 };

        WITH_REGISTRY(r, b, 100);
        build_free(&b);
        b = (struct build){ .r = &r };
        base_layer(&tar, 100000, 7);
        compress_buf(&gz, tar.data, tar.len, ARCHIVE_FILTER_GZIP);
        add_blob(&b, &gz, &tar);
        publish(&b, "bad", OCI_MANIFEST);
        for (size_t i = 0; i < r.n; i++)
                if (strstr(r.objects[i].path, b.blobs.v[0]))
                        r.objects[i].data[50000] ^= 1;
        {
                struct cc_err err = CC_ERR_INIT;

                assert_int_equal(pull(w, &r, ":bad", NULL, &err), -CC_CORRUPT);
                assert_non_null(strstr(err.msg, "sent bytes with sha256:"));
        }
        assert_nothing_left(w);
        double_registry_stop(&r);
}

static void test_truncated_blob(void **state)
{
        struct world *w = *state;

        WITH_REGISTRY(r, b, 100000);
        r.truncate = true;
        assert_pull_fails(w, &r, CC_CORRUPT, "");
        double_registry_stop(&r);
}

static void test_truncated_gzip_with_a_right_digest(void **state)
{
        struct world *w = *state;
        static struct double_registry r;
        CC_CLEANUP(build_free) struct build b = { .r = &r };
        CC_BUF struct cc_buf tar = { 0 };
        CC_BUF struct cc_buf gz = { 0 };

        memset(&r, 0, sizeof(r));
        double_registry_start(&r, "127.0.0.1");
        base_layer(&tar, 100000, 1);
        compress_buf(&gz, tar.data, tar.len, ARCHIVE_FILTER_GZIP);
        gz.len /= 2;
        add_blob(&b, &gz, &tar);
        publish(&b, "v1", OCI_MANIFEST);
        assert_pull_fails(w, &r, CC_INVALID, "truncated");
        double_registry_stop(&r);
}

static void test_wrong_diff_id(void **state)
{
        struct world *w = *state;
        static struct double_registry r;
        CC_CLEANUP(build_free) struct build b = { .r = &r };
        CC_BUF struct cc_buf tar = { 0 };
        CC_BUF struct cc_buf other = { 0 };

        memset(&r, 0, sizeof(r));
        double_registry_start(&r, "127.0.0.1");
        base_layer(&tar, 1000, 1);
        base_layer(&other, 1000, 2);
        add_blob(&b, &tar, &other);
        publish(&b, "v1", OCI_MANIFEST);
        assert_pull_fails(w, &r, CC_CORRUPT, "the unpacked layer has sha256:");
        double_registry_stop(&r);
}

static void test_layer_above_the_limit(void **state)
{
        struct world *w = *state;

        WITH_REGISTRY(r, b, 3000000);
        w->config.layer_max_size = 1000000;
        assert_pull_fails(w, &r, CC_INVALID, "unpacks to more than");
        double_registry_stop(&r);
}

/* 2 GiB of zeros: small on the wire, refused long before the configured limit. */
static void test_gzip_bomb(void **state)
{
        struct world *w = *state;
        static struct double_registry r;
        CC_CLEANUP(build_free) struct build b = { .r = &r };
        struct archive *a = archive_write_new();
        struct archive_entry *e = archive_entry_new();
        size_t cap = 16 << 20;
        CC_FREE char *gz = xmalloc(cap);
        CC_FREE char *zeros = xcalloc(1, 1 << 20);
        struct cc_buf blob = { 0 };
        struct cc_buf none = { 0 };
        CC_BUF struct cc_buf head = { 0 };

        memset(&r, 0, sizeof(r));
        double_registry_start(&r, "127.0.0.1");
        tar_add(&head, "zeros", '0', NULL, 0);
        /* The header claims 10 GiB in octal. */
        memcpy(head.data + 124, "120000000000", 12);
        {
                unsigned sum = 0;

                memset(head.data + 148, ' ', 8);
                for (size_t i = 0; i < 512; i++)
                        sum += (unsigned char)head.data[i];
                (void)snprintf(head.data + 148, 8, "%06o", sum);
        }
        (void)archive_write_set_format_raw(a);
        (void)archive_write_add_filter_gzip(a);
        (void)archive_write_set_options(a, "gzip:compression-level=1");
        assert_int_equal(archive_write_open_memory(a, gz, cap, &blob.len), ARCHIVE_OK);
        archive_entry_set_filetype(e, AE_IFREG);
        assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
        assert_true(archive_write_data(a, head.data, 512) == 512);
        for (int i = 0; i < 1100; i++)
                assert_true(archive_write_data(a, zeros, 1 << 20) == 1 << 20);
        (void)archive_write_close(a);
        archive_entry_free(e);
        archive_write_free(a);
        blob.data = gz;
        none.data = zeros;
        add_blob(&b, &blob, &none);
        publish(&b, "v1", OCI_MANIFEST);
        w->config.layer_max_size = INT64_C(64) << 30;
        assert_pull_fails(w, &r, CC_INVALID, "decompression bomb");
        double_registry_stop(&r);
}

/* Publish an image whose only layer is a bootable base with one more entry of this name. */
static void odd_image(struct build *b, const char *name, const char *trailer, size_t trailer_len)
{
        CC_BUF struct cc_buf tar = { 0 };

        tar_add(&tar, "boot/", '5', NULL, 0);
        tar_file(&tar, "boot/vmlinuz-6.1.0-1", "kernel one");
        tar_file(&tar, "boot/initrd.img-6.1.0-1", "initrd one");
        tar_file(&tar, name, "odd");
        tar_end(&tar);
        cc_buf_add(&tar, trailer, trailer_len);
        add_layer(b, &tar, ARCHIVE_FILTER_GZIP);
        publish(b, "v1", OCI_MANIFEST);
}

static void test_names_that_escape(void **state)
{
        struct world *w = *state;
        static const char *const names[] = { "../outside", "a/../../outside", "boot/..", "/../x" };

        for (size_t i = 0; i < CC_ARRAY_LEN(names); i++) {
                static struct double_registry r;
                CC_CLEANUP(build_free) struct build b = { .r = &r };

                memset(&r, 0, sizeof(r));
                double_registry_start(&r, "127.0.0.1");
                odd_image(&b, names[i], NULL, 0);
                assert_pull_fails(w, &r, CC_INVALID, "..");
                double_registry_stop(&r);
        }
}

/* Absolute names lose their slash, bytes that are no UTF-8 are names like any other; the digest
 * covers what follows the end of the tar. */
static void test_names_that_are_only_odd(void **state)
{
        struct world *w = *state;
        static const char *const names[] = { "/etc/absolute", "caf\xe9\xff", "a\nb" };
        static const char padding[9216];

        for (size_t i = 0; i < CC_ARRAY_LEN(names); i++) {
                static struct double_registry r;
                CC_CLEANUP(build_free) struct build b = { .r = &r };

                memset(&r, 0, sizeof(r));
                double_registry_start(&r, "127.0.0.1");
                odd_image(&b, names[i], padding, i * 4608);
                assert_pull_ok(w, &r);
                double_registry_stop(&r);
        }
}

/* The kernel of a lower layer that an upper one deletes is not chosen. */
static void test_whiteouts_hide_kernels(void **state)
{
        struct world *w = *state;
        static struct double_registry r;
        CC_CLEANUP(build_free) struct build b = { .r = &r };
        CC_BUF struct cc_buf base = { 0 };
        CC_BUF struct cc_buf upper = { 0 };
        IMAGE_RECORD struct image_record record = IMAGE_RECORD_INIT;
        struct image_files files = { 0 };
        CC_FREE char *ref = NULL;
        CC_FREE char *text = NULL;
        struct cc_err err = CC_ERR_INIT;

        memset(&r, 0, sizeof(r));
        double_registry_start(&r, "127.0.0.1");
        tar_file(&base, "boot/vmlinuz-2", "kernel two");
        tar_file(&base, "boot/initrd.img-2", "initrd two");
        tar_file(&base, "boot/vmlinuz-1", "kernel one");
        tar_file(&base, "boot/initrd.img-1", "initrd one");
        tar_end(&base);
        add_layer(&b, &base, ARCHIVE_FILTER_GZIP);
        publish(&b, "base", OCI_MANIFEST);
        free(b.manifest_digest);
        tar_file(&upper, "boot/.wh.vmlinuz-2", "");
        tar_end(&upper);
        add_layer(&b, &upper, ARCHIVE_FILTER_GZIP);
        publish(&b, "v1", OCI_MANIFEST);

        /* Both images take a kernel from one layer, and not the same one. */
        assert_ok(pull(w, &r, ":base", NULL, &err), &err);
        ref = xasprintf("127.0.0.1:%d/r/i:v1", r.port);
        assert_ok(image_pull(&w->env, ref, false, &record, NULL, &err), &err);
        assert_ok(image_files(&w->config, IMAGE_OCI, &record, false, &files, &err), &err);
        assert_ok(cc_read_file(files.kernel, 100, &text, NULL, &err), &err);
        assert_string_equal(text, "kernel one");
        image_files_clear(&files);
        image_record_clear(&record);
        free(ref);
        free(text);
        ref = xasprintf("127.0.0.1:%d/r/i:base", r.port);
        assert_ok(image_pull(&w->env, ref, false, &record, NULL, &err), &err);
        assert_ok(image_files(&w->config, IMAGE_OCI, &record, false, &files, &err), &err);
        assert_ok(cc_read_file(files.kernel, 100, &text, NULL, &err), &err);
        assert_string_equal(text, "kernel two");
        image_files_clear(&files);
        double_registry_stop(&r);
}

static void test_index_with_attestations(void **state)
{
        struct world *w = *state;
        CC_FREE char *index = NULL;
        struct cc_err err = CC_ERR_INIT;

        WITH_REGISTRY(r, b, 1000);
        index = xasprintf("{\"schemaVersion\":2,\"manifests\":["
                          "{\"mediaType\":\"" OCI_MANIFEST
                          "\",\"digest\":\"sha256:%064d\",\"size\":5,"
                          "\"platform\":{\"os\":\"unknown\",\"architecture\":\"unknown\"}},"
                          "{\"mediaType\":\"" OCI_MANIFEST "\",\"digest\":\"%s\",\"size\":%zu,"
                          "\"platform\":{\"os\":\"linux\",\"architecture\":\"%s\"}}]}",
                          0, b.manifest_digest, b.manifest_len,
#if defined(__aarch64__)
                          "arm64"
#else
                          "amd64"
#endif
        );
        (void)double_registry_manifest(&r, "r/i", "multi", OCI_INDEX, index);
        assert_ok(pull(w, &r, ":multi", NULL, &err), &err);
        double_registry_stop(&r);
}

static void test_manifest_without_media_type(void **state)
{
        struct world *w = *state;
        static struct double_registry r;
        CC_CLEANUP(build_free) struct build b = { .r = &r };
        CC_BUF struct cc_buf tar = { 0 };

        memset(&r, 0, sizeof(r));
        double_registry_start(&r, "127.0.0.1");
        base_layer(&tar, 1000, 1);
        add_layer(&b, &tar, ARCHIVE_FILTER_GZIP);
        publish(&b, "v1", NULL);
        assert_pull_ok(w, &r);
        double_registry_stop(&r);
}

static void test_pull_by_digest(void **state)
{
        struct world *w = *state;
        CC_FREE char *target = NULL;
        struct cc_err err = CC_ERR_INIT;

        WITH_REGISTRY(r, b, 1000);
        target = xasprintf("@%s", b.manifest_digest);
        assert_ok(pull(w, &r, target, NULL, &err), &err);
        /* Same digest asked, other bytes served. */
        for (size_t i = 0; i < r.n; i++)
                if (strstr(r.objects[i].path, b.manifest_digest))
                        r.objects[i].data[r.objects[i].len - 2] = ' ';
        assert_int_equal(pull(w, &r, target, NULL, &err), -CC_CORRUPT);
        double_registry_stop(&r);
}

static void test_ten_thousand_layers(void **state)
{
        struct world *w = *state;

        WITH_REGISTRY(r, b, 1000);
        for (int i = 0; i < 10000; i++)
                cc_buf_printf(&b.layers, ",{\"digest\":\"sha256:%064d\",\"size\":1}", i);
        free(b.manifest_digest);
        {
                CC_FREE char *text = xasprintf("{\"config\":{\"digest\":\"sha256:%064d\","
                                               "\"size\":1},\"layers\":[%s]}",
                                               0, b.layers.data);

                b.manifest_digest =
                        xstrdup(double_registry_manifest(&r, "r/i", "many", OCI_MANIFEST, text));
        }
        {
                struct cc_err err = CC_ERR_INIT;

                assert_int_equal(pull(w, &r, ":many", NULL, &err), -CC_INVALID);
                assert_non_null(strstr(err.msg, "10001 layers, more than the 128"));
        }
        assert_int_equal(atomic_load(&r.seen.blobs), 0);
        assert_nothing_left(w);
        double_registry_stop(&r);
}

static void test_image_without_boot_files(void **state)
{
        struct world *w = *state;
        static struct double_registry r;
        CC_CLEANUP(build_free) struct build b = { .r = &r };
        CC_BUF struct cc_buf tar = { 0 };

        memset(&r, 0, sizeof(r));
        double_registry_start(&r, "127.0.0.1");
        tar_file(&tar, "hello", "world");
        tar_end(&tar);
        add_layer(&b, &tar, ARCHIVE_FILTER_GZIP);
        publish(&b, "v1", OCI_MANIFEST);
        assert_pull_fails(w, &r, CC_INVALID, "missing boot files (vmlinuz/initrd.img)");
        double_registry_stop(&r);
}

static void test_force_replaces_only_damaged_blobs(void **state)
{
        struct world *w = *state;
        IMAGE_RECORD struct image_record record = IMAGE_RECORD_INIT;
        IMAGE_RECORD struct image_record again = IMAGE_RECORD_INIT;
        CC_FREE char *ref = NULL;
        CC_FREE char *blob = NULL;
        struct cc_err err = CC_ERR_INIT;
        struct stat before;
        struct stat after;
        FILE *f;

        WITH_REGISTRY(r, b, 100000);
        ref = xasprintf("127.0.0.1:%d/r/i:v1", r.port);
        assert_ok(image_pull(&w->env, ref, false, &record, NULL, &err), &err);
        blob = layout_oci_blob(&w->config, b.blobs.v[0] + 7);
        assert_int_equal(stat(blob, &before), 0);
        assert_ok(image_pull(&w->env, ref, true, &again, NULL, &err), &err);
        assert_int_equal(stat(blob, &after), 0);
        assert_true(before.st_ino == after.st_ino);

        f = fopen(blob, "r+");
        assert_non_null(f);
        assert_int_equal(fseek(f, 50000, SEEK_SET), 0);
        assert_true(fputc('!', f) != EOF && fputc('?', f) != EOF);
        assert_int_equal(fclose(f), 0);
        image_record_clear(&again);
        assert_ok(image_pull(&w->env, ref, true, &again, NULL, &err), &err);
        assert_int_equal(stat(blob, &after), 0);
        assert_true(before.st_ino != after.st_ino);
        assert_string_equal(image_layer_at(&record, 0)->erofs_sha256,
                            image_layer_at(&again, 0)->erofs_sha256);
        double_registry_stop(&r);
}

static pid_t pull_in_child(const struct world *w, const struct double_registry *r)
{
        pid_t pid = fork();

        if (pid == 0) {
                struct world mine;
                struct cc_err err = CC_ERR_INIT;
                int res;

                /* A store handle does not survive fork: open another one on the same root. */
                world_init_at(&mine, w->dir);
                res = pull(&mine, r, ":v1", NULL, &err);
                if (res < 0)
                        (void)fprintf(stderr, "child: %s\n", err.msg);
                _exit(res < 0 ? 1 : 0);
        }
        assert_true(pid > 0);
        return pid;
}

static void test_two_processes_make_one_copy(void **state)
{
        struct world *w = *state;
        pid_t pids[4];

        WITH_REGISTRY(r, b, 3000000);
        for (size_t i = 0; i < CC_ARRAY_LEN(pids); i++)
                pids[i] = pull_in_child(w, &r);
        for (size_t i = 0; i < CC_ARRAY_LEN(pids); i++) {
                int status;

                assert_true(waitpid(pids[i], &status, 0) == pids[i]);
                assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        }
        /* The layer came once; each may have asked for the small configuration. */
        assert_true(atomic_load(&r.seen.blob_bytes) < 3200000);
        assert_int_equal(count_entries(w, "oci/blobs"), 1);
        assert_int_equal(count_entries(w, "oci/temp"), 0);
        double_registry_stop(&r);
}

static void test_killed_pull_leaves_no_trouble(void **state)
{
        struct world *w = *state;
        pid_t pid;
        int status;

        WITH_REGISTRY(r, b, 3000000);
        r.stall_at = 1000000;
        r.stall = 100;
        (void)setenv("COCOON_HTTP_STALL_SECONDS", "60", 1);
        pid = pull_in_child(w, &r);
        while (atomic_load(&r.seen.blob_bytes) < 1000000)
                (void)usleep(1000);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_true(waitpid(pid, &status, 0) == pid);
        assert_int_equal(count_entries(w, "oci/temp"), 1);
        r.stall = 0;
        (void)setenv("COCOON_HTTP_STALL_SECONDS", "1", 1);
        assert_pull_ok(w, &r);
        assert_int_equal(count_entries(w, "oci/blobs"), 1);
        double_registry_stop(&r);
}

/* In its own mount namespace, on a tmpfs too small for the layer. */
static int pull_on_small_disk(const struct double_registry *r, const char *dir)
{
        struct world mine;
        struct cc_err err = CC_ERR_INIT;

        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("tmpfs", dir, "tmpfs", 0, "size=2m") < 0)
                return 77;
        world_init_at(&mine, dir);
        if (pull(&mine, r, ":v1", NULL, &err) != -CC_NO_SPACE)
                return 1;
        if (count_entries(&mine, "oci/blobs") || count_entries(&mine, "oci/temp"))
                return 2;
        return strstr(err.msg, "No space left") && !strchr(err.msg, '\n') ? 0 : 3;
}

static void test_full_disk(void **state)
{
        struct world *w = *state;
        CC_FREE char *dir = xasprintf("%s/small", w->dir);
        int status;
        pid_t pid;

        WITH_REGISTRY(r, b, 3000000);
        assert_int_equal(mkdir(dir, 0700), 0);
        pid = fork();
        if (pid == 0)
                _exit(pull_on_small_disk(&r, dir));
        assert_true(waitpid(pid, &status, 0) == pid);
        double_registry_stop(&r);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == 77) {
                print_message("skipped: mounting a tmpfs needs privileges\n");
                skip();
        }
        assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
        const struct CMUnitTest tests[] = {
                T(test_layers_of_all_compressions),
                T(test_bearer_token_and_its_refresh),
                T(test_basic_credentials),
                T(test_token_service_checks_credentials),
                T(test_credentials_stay_at_home),
                T(test_retry_after_is_honoured),
                T(test_tries_end),
                T(test_long_waits_are_not_obeyed),
                T(test_cut_download_resumes),
                T(test_cut_download_without_ranges),
                T(test_wrong_range_is_refused),
                T(test_stall_ends),
                T(test_one_stall_is_survived),
                T(test_wrong_digest),
                T(test_wrong_layer_digest),
                T(test_truncated_blob),
                T(test_truncated_gzip_with_a_right_digest),
                T(test_wrong_diff_id),
                T(test_layer_above_the_limit),
                T(test_gzip_bomb),
                T(test_names_that_escape),
                T(test_names_that_are_only_odd),
                T(test_whiteouts_hide_kernels),
                T(test_index_with_attestations),
                T(test_manifest_without_media_type),
                T(test_pull_by_digest),
                T(test_ten_thousand_layers),
                T(test_image_without_boot_files),
                T(test_force_replaces_only_damaged_blobs),
                T(test_two_processes_make_one_copy),
                T(test_killed_pull_leaves_no_trouble),
                T(test_full_disk),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

/* What the tests of pull and import share: a root with a store, tar building, compression, and the
 * check that nothing was left behind. Header-only: each test is one program. */
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/str.h"
#include "config/config.h"
#include "config/layout.h"
#include "image/module.h"
#include "image/pull/digest.h"
#include "image/pull/pull.h"

struct world {
        char dir[64];
        struct config config;
        struct meta *meta;
        struct image_env env;
};

#define assert_ok(expr, err)                                                                       \
        do {                                                                                       \
                if ((expr) < 0)                                                                    \
                        fail_msg("%s: %s", #expr, (err)->msg);                                     \
        } while (0)

static inline void world_open_store(struct world *w)
{
        struct meta_open_args args = { .root_dir = w->config.root_dir,
                                       .run_dir = w->config.run_dir };
        struct cc_err err = CC_ERR_INIT;

        assert_ok(layout_create(&w->config, &err), &err);
        assert_ok(meta_open(&args, &w->meta, &err), &err);
        w->env = (struct image_env){ .config = &w->config, .meta = w->meta };
}

static inline void world_init_at(struct world *w, const char *dir)
{
        memset(w, 0, sizeof(*w));
        (void)snprintf(w->dir, sizeof(w->dir), "%s", dir);
        w->config.root_dir = xasprintf("%s/root", w->dir);
        w->config.run_dir = xasprintf("%s/root/run", w->dir);
        w->config.log_dir = xasprintf("%s/log", w->dir);
        w->config.pool_size = 2;
        w->config.layer_max_size = INT64_C(8) << 30;
        w->config.cloudimg_max_size = INT64_C(20) << 30;
        w->config.pull_conns = 4;
        world_open_store(w);
}

static inline int world_setup(void **state)
{
        struct world *w = xcalloc(1, sizeof(*w));
        char dir[64] = "/tmp/cocoon-image-XXXXXX";

        assert_non_null(mkdtemp(dir));
        (void)setenv("HOME", dir, 1);
        (void)unsetenv("DOCKER_CONFIG");
        (void)unsetenv("XDG_RUNTIME_DIR");
        (void)setenv("COCOON_HTTP_STALL_SECONDS", "1", 1);
        (void)setenv("COCOON_HTTP_RETRY_MS", "10", 1);
        world_init_at(w, dir);
        *state = w;
        return 0;
}

static inline int world_teardown(void **state)
{
        struct world *w = *state;

        meta_close(w->meta);
        free(w->config.root_dir);
        free(w->config.run_dir);
        free(w->config.log_dir);
        (void)cc_rm_rf(w->dir, NULL);
        free(w);
        return 0;
}

/* Files and directories below root/<sub>. */
static inline size_t count_entries(const struct world *w, const char *sub)
{
        CC_FREE char *path = xasprintf("%s/%s", w->config.root_dir, sub);
        CC_DIR DIR *d = opendir(path);
        size_t n = 0;

        for (struct dirent *e; d && (e = readdir(d));)
                n += e->d_name[0] != '.' ? 1 : 0;
        return n;
}

static inline void assert_nothing_left(const struct world *w)
{
        struct record_array list = { 0 };
        struct cc_err err = CC_ERR_INIT;

        assert_int_equal(count_entries(w, "oci/blobs"), 0);
        assert_int_equal(count_entries(w, "oci/boot"), 0);
        assert_int_equal(count_entries(w, "oci/temp"), 0);
        assert_ok(image_list(w->meta, &list, &err), &err);
        assert_int_equal(list.len, 0);
}

static inline void free_views(struct record_array *list)
{
        for (size_t i = 0; i < list->len; i++)
                record_clear(&image_view_type, (struct image_view *)list->v + i);
        free(list->v);
        *list = (struct record_array){ 0 };
}

/* ---- tar ---- */

/* A ustar header with any name, also ones no tar program would write. */
static inline void tar_add(struct cc_buf *b, const char *name, char type, const void *data,
                           size_t n)
{
        char h[512] = { 0 };
        unsigned sum = 0;

        assert_true(strlen(name) < 100);
        memcpy(h, name, strlen(name));
        memcpy(h + 100, type == '5' ? "0000755" : "0000644", 8);
        memcpy(h + 108, "0000000", 8);
        memcpy(h + 116, "0000000", 8);
        (void)snprintf(h + 124, 12, "%011o", (unsigned)n);
        memcpy(h + 136, "00000000000", 12);
        h[156] = type;
        memcpy(h + 257, "ustar\00000", 8);
        memset(h + 148, ' ', 8);
        for (size_t i = 0; i < sizeof(h); i++)
                sum += (unsigned char)h[i];
        (void)snprintf(h + 148, 8, "%06o", sum);
        cc_buf_add(b, h, sizeof(h));
        cc_buf_add(b, data, n);
        while (b->len % 512)
                cc_buf_char(b, '\0');
}

static inline void tar_end(struct cc_buf *b)
{
        static const char zero[1024];

        cc_buf_add(b, zero, sizeof(zero));
}

static inline void tar_file(struct cc_buf *b, const char *name, const char *text)
{
        tar_add(b, name, '0', text, strlen(text));
}

/* n bytes that do not compress. */
static inline char *noise(size_t n, unsigned seed)
{
        char *p = xmalloc(n);
        uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;

        for (size_t i = 0; i < n; i++) {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                p[i] = (char)x;
        }
        return p;
}

static inline void compress_buf(struct cc_buf *out, const void *data, size_t n, int filter)
{
        struct archive *a = archive_write_new();
        struct archive_entry *e = archive_entry_new();
        size_t cap = n + n / 8 + (1 << 16);
        size_t used = 0;

        cc_buf_reserve(out, cap);
        assert_int_equal(archive_write_set_format_raw(a), ARCHIVE_OK);
        assert_int_equal(archive_write_add_filter(a, filter), ARCHIVE_OK);
        (void)archive_write_set_bytes_in_last_block(a, 1);
        assert_int_equal(archive_write_open_memory(a, out->data, cap, &used), ARCHIVE_OK);
        archive_entry_set_filetype(e, AE_IFREG);
        assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
        assert_true(archive_write_data(a, data, n) == (la_ssize_t)n);
        assert_int_equal(archive_write_close(a), ARCHIVE_OK);
        archive_entry_free(e);
        archive_write_free(a);
        out->len = used;
}

static inline char *digest_text_of(const struct cc_buf *b)
{
        char hex[DIGEST_HEX_LEN + 1];

        digest_of(b->data, b->len, hex);
        return xasprintf("sha256:%s", hex);
}

/* A base layer that boots on paper: kernel, initramfs, one file of noise. */
static inline void base_layer(struct cc_buf *tar, size_t noise_len, unsigned seed)
{
        CC_FREE char *data = noise(noise_len + 1, seed);

        tar_add(tar, "boot/", '5', NULL, 0);
        tar_file(tar, "boot/vmlinuz-6.1.0-1", "kernel one");
        tar_file(tar, "boot/initrd.img-6.1.0-1", "initrd one");
        tar_add(tar, "data", '0', data, noise_len);
        tar_end(tar);
}

/* Flat mode: what layers become when they are merged. The same cases against the kernel's overlayfs
 * are in tests/e2e/flat.bats. */
#include "layers.h"

#include <unistd.h>

#include "image/pull/flatten.h"

static const struct {
        const char *name;
        const char *layers[MAX_TEST_LAYERS]; /* bottom to top */
        const char *flat;
} cases[] = {
        { "one layer",
          { "d a 755; f a/x one; l s a/x; c dev" },
          "d a 755; f a/x one,1; c dev; l s a/x; " },
        { "names are joined, the upper file wins",
          { "d a 755; f a/x low; f a/y low; f b low", "d a 755; f a/x up; f a/z up" },
          "d a 755; f a/x up,1; f a/y low,1; f a/z up,1; f b low,1; " },
        { "attributes of a directory are the topmost layer's",
          { "d a 700; d a/b 711; f a/b/x low", "d a 750; f a/y mid", "d a 1777; d a/b 705" },
          "d a 1777; d a/b 705; f a/b/x low,1; f a/y mid,1; " },
        { "whiteout of a file", { "f x low; f y low", "w / x" }, "f y low,1; " },
        { "whiteout of a tree", { "d a 755; d a/b 755; f a/b/x low", "w / a" }, "" },
        { "whiteout of nothing", { "f y low", "w / x; w a x" }, "d a 755; f y low,1; " },
        { "whiteout, then made again in a higher layer",
          { "d a 755; f a/x low", "w / a", "d a 700; f a/y top" },
          "d a 700; f a/y top,1; " },
        { "whiteout and made again in the same layer",
          { "d a 755; f a/x low", "w / a; d a 700; f a/y up" },
          "d a 700; f a/y up,1; " },
        { "a whiteout below the topmost layer ends what it covers",
          { "d a 755; f a/x 0", "w a x", "f a/z 2" },
          "d a 755; f a/z 2,1; " },
        { "opaque directory",
          { "d a 755; f a/x low; f b low", "d a 700; o a; f a/y up" },
          "d a 700; f a/y up,1; f b low,1; " },
        { "opaque after its siblings",
          { "d a 755; f a/x low", "d a 700; f a/y up; d a/z 755; o a" },
          "d a 700; f a/y up,1; d a/z 755; " },
        { "opaque in the middle: layers above it add",
          { "d a 755; f a/x 0", "d a 755; o a; f a/y 1", "d a 755; f a/z 2" },
          "d a 755; f a/y 1,1; f a/z 2,1; " },
        { "opaque root: overlayfs merges roots in any case",
          { "f x low; d a 755", "o /; f y up" },
          "d a 755; f x low,1; f y up,1; " },
        { "opaque covers whole trees, not the directory beside it",
          { "d a 755; d a/b 755; f a/b/x low; d c 755; f c/x low", "o a/b; f a/b/y up" },
          "d a 755; d a/b 755; f a/b/y up,1; d c 755; f c/x low,1; " },
        { "file becomes directory", { "f a low", "d a 755; f a/x up" }, "d a 755; f a/x up,1; " },
        { "directory becomes file", { "d a 755; f a/x low", "f a up" }, "f a up,1; " },
        { "directory becomes link, nothing is written through it",
          { "d a 755; f a/x low; d b 755", "l a b" },
          "l a b; d b 755; " },
        { "directory, file, directory: the lowest is gone",
          { "d a 755; f a/x 0", "f a 1", "d a 711; f a/y 2" },
          "d a 711; f a/y 2,1; " },
        { "hard links stay one file",
          { "f a one; h b a; d d 755; h d/c a" },
          "f a one,3; f b one,3; d d 755; f d/c one,3; " },
        { "hard links where an upper layer took a name",
          { "f a one; h b a; h c a", "f a new", "w / b" },
          "f a new,1; f c one,1; " },
        { "hard links of different layers are different files",
          { "f a 0; h b a", "f c 1; h d c" },
          "f a 0,2; f b 0,2; f c 1,2; f d 1,2; " },
        { "hard link whose first name comes later in the tree",
          { "d z 755; f z/a one; h b z/a" },
          "f b one,2; d z 755; f z/a one,2; " },
        { "names around the dots",
          { "f ! 0; f .a 0; f -x 0; f ..x 0", "w / ..x; f ... 1" },
          "f ! 0,1; f -x 0,1; f ... 1,1; f .a 0,1; " },
        { "a name that is another's beginning",
          { "d a 755; f a/x 0; f a. 0; d ab 755", "f a/y 1; f ab/x 1" },
          "d a 755; f a/x 0,1; f a/y 1,1; f a. 0,1; d ab 755; f ab/x 1,1; " },
};

static void test_cases(void **state)
{
        for (size_t i = 0; i < CC_ARRAY_LEN(cases); i++) {
                CC_CLOSE int fd = flat_make(cases[i].layers);
                CC_FREE char *shown = image_show(fd);

                if (!cc_streq(shown, cases[i].flat))
                        fail_msg("%s:\n  \"%s\" instead of\n  \"%s\"", cases[i].name, shown,
                                 cases[i].flat);
        }
}

/* Every layer's own markers are gone, other attributes stay; metadata survives the copy. */
static void test_attributes(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        static const char cap[20] = "\1\0\0\2\0\4";
        struct erofs_xattr x[] = {
                { "user.note", "hello", 5 },
                { "security.capability", cap, sizeof(cap) },
                { "trusted.overlay.redirect", "/etc", 4 },
        };
        struct erofs_entry e = { .path = "d/f",
                                 .mode = S_IFREG | 04751,
                                 .uid = 70000,
                                 .gid = 80000,
                                 .mtime = -5,
                                 .mtime_nsec = 999999999,
                                 .xattrs = x,
                                 .n_xattrs = 3 };
        CC_CLOSE int low = memfd_create("low", MFD_CLOEXEC);
        CC_CLOSE int up = layer_make("d d 700; w d gone; o d/sub");
        CC_CLOSE int fd = memfd_create("flat", MFD_CLOEXEC);
        struct erofs_writer *w = layer_open(low);
        EROFS_XATTRS struct erofs_xattrs got = { 0 };
        struct erofs_reader readers[2];
        struct erofs_reader r;
        struct erofs_inode inode;
        uint64_t nid;

        assert_ok(erofs_writer_entry(w, &e, &err));
        e.path = "d/g"; /* shares the attributes */
        assert_ok(erofs_writer_entry(w, &e, &err));
        layer_finish(w, low);
        assert_ok(erofs_reader_init(low, "low", &readers[0], &err));
        assert_ok(erofs_reader_init(up, "up", &readers[1], &err));
        w = layer_open(fd);
        assert_ok(erofs_flatten(readers, 2, w, "/tmp", NULL, NULL, &err));
        layer_finish(w, fd);

        assert_ok(erofs_reader_init(fd, "flat", &r, &err));
        assert_memory_equal(r.uuid, test_uuid, 16);
        assert_ok(erofs_inode_get(&r, r.root, &inode, &err));
        assert_int_equal(erofs_lookup(&r, &inode, "d", 1, &nid, &err), 1);
        assert_ok(erofs_inode_get(&r, nid, &inode, &err));
        assert_int_equal(inode.mode, S_IFDIR | 0700);
        assert_int_equal(inode.xattrs_size, 0);
        assert_int_equal(erofs_lookup(&r, &inode, "sub", 3, &nid, &err), 1);
        assert_int_equal(erofs_lookup(&r, &inode, "gone", 4, &nid, &err), 0);
        assert_int_equal(erofs_lookup(&r, &inode, "f", 1, &nid, &err), 1);
        assert_ok(erofs_inode_get(&r, nid, &inode, &err));
        assert_int_equal(inode.mode, S_IFREG | 04751);
        assert_int_equal(inode.uid, 70000);
        assert_int_equal(inode.gid, 80000);
        assert_int_equal(inode.mtime, -5);
        assert_int_equal(inode.mtime_nsec, 999999999);
        assert_ok(erofs_xattrs_get(&r, &inode, &got, &err));
        assert_int_equal(got.n, 2);
        assert_string_equal(got.v[0].name, "user.note");
        assert_memory_equal(got.v[0].value, "hello", 5);
        assert_string_equal(got.v[1].name, "security.capability");
        assert_int_equal(got.v[1].size, sizeof(cap));
}

/* Contents of all sizes around a block, with holes, arrive; merging twice gives the same bytes. */
static void test_data(void **state)
{
        static const uint64_t sizes[] = { 0, 1, 4095, 4096, 4097, 300000, 5 << 20 };
        struct cc_err err = CC_ERR_INIT;
        CC_CLOSE int low = memfd_create("low", MFD_CLOEXEC);
        int fds[2];
        CC_FREE uint8_t *data = xcalloc(5 << 20, 1);
        CC_FREE uint8_t *back = xcalloc(5 << 20, 1);
        struct erofs_writer *w = layer_open(low);
        struct erofs_reader r;
        struct erofs_inode root;
        struct stat st[2];

        for (size_t i = 0; i < (5 << 20); i++)
                data[i] = (uint8_t)(i * 7 + i / 251);
        memset(data + (2 << 20), 0, 2 << 20);
        for (size_t i = 0; i < CC_ARRAY_LEN(sizes); i++) {
                char name[16];
                struct erofs_entry e = { .path = name, .mode = S_IFREG | 0600, .size = sizes[i] };

                (void)snprintf(name, sizeof(name), "f%zu", i);
                assert_ok(erofs_writer_entry(w, &e, &err));
                if (sizes[i] < (5 << 20)) {
                        assert_ok(erofs_writer_data(w, data, sizes[i], 0, &err));
                        continue;
                }
                assert_ok(erofs_writer_data(w, data, 2 << 20, 0, &err));
                assert_ok(erofs_writer_data(w, data + (4 << 20), 1 << 20, 4 << 20, &err));
        }
        layer_finish(w, low);
        assert_ok(erofs_reader_init(low, "low", &r, &err));
        for (size_t k = 0; k < 2; k++) {
                fds[k] = memfd_create("flat", MFD_CLOEXEC);
                w = layer_open(fds[k]);
                assert_ok(erofs_flatten(&r, 1, w, "/tmp", NULL, NULL, &err));
                layer_finish(w, fds[k]);
                assert_int_equal(fstat(fds[k], &st[k]), 0);
        }
        assert_ok(erofs_reader_init(fds[0], "flat", &r, &err));
        assert_ok(erofs_inode_get(&r, r.root, &root, &err));
        for (size_t i = 0; i < CC_ARRAY_LEN(sizes); i++) {
                struct erofs_inode inode;
                char name[16];
                uint64_t nid;

                (void)snprintf(name, sizeof(name), "f%zu", i);
                assert_int_equal(erofs_lookup(&r, &root, name, strlen(name), &nid, &err), 1);
                assert_ok(erofs_inode_get(&r, nid, &inode, &err));
                assert_int_equal(inode.size, sizes[i]);
                assert_ok(erofs_read(&r, &inode, 0, back, sizes[i], &err));
                assert_memory_equal(back, data, sizes[i]);
                assert_int_equal(erofs_read(&r, &inode, sizes[i], back, 1, &err), -CC_INVALID);
        }
        /* A hole stays one. */
        assert_true(st[0].st_blocks * 512 < st[0].st_size - (1 << 20));
        assert_int_equal(st[0].st_size, st[1].st_size);
        {
                uint8_t a[65536];
                uint8_t b[65536];
                ssize_t n;

                for (off_t off = 0; (n = pread(fds[0], a, sizeof(a), off)) > 0; off += n) {
                        assert_int_equal(pread(fds[1], b, sizeof(b), off), n);
                        assert_memory_equal(a, b, (size_t)n);
                }
        }
        close(fds[0]);
        close(fds[1]);
}

static int stop(void *ctx, uint64_t bytes, struct cc_err *err)
{
        return cc_fail(err, CC_CANCELED, "canceled");
}

static void test_stop(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        CC_CLOSE int low = layer_make("f a text");
        CC_CLOSE int fd = memfd_create("flat", MFD_CLOEXEC);
        EROFS_WRITER struct erofs_writer *w = layer_open(fd);
        struct erofs_reader r;

        assert_ok(erofs_reader_init(low, "low", &r, &err));
        assert_int_equal(erofs_flatten(&r, 1, w, "/tmp", stop, NULL, &err), -CC_CANCELED);
        assert_int_equal(erofs_flatten(&r, 0, w, "/tmp", stop, NULL, &err), -CC_INVALID);
}

/* The name that images.md §10.1 prescribes: printf 'flat1\n%s\n%s' ... | sha256sum. */
static void test_name(void **state)
{
        IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;
        char hex[DIGEST_HEX_LEN + 1];
        struct image_layer *l;

        image.ref = xstrdup("x");
        assert_int_equal(flatten_name(&image, hex, &err), -CC_CORRUPT);
        l = record_array_add(&image_layer_type, &image.layers);
        l->digest = xstrdup("sha256:"
                            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
        l = record_array_add(&image_layer_type, &image.layers);
        l->digest = xstrdup("sha256:"
                            "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb");
        assert_ok(flatten_name(&image, hex, &err));
        assert_string_equal(hex,
                            "f95dba640866256cf4ab4b4a7e6ebdf1c803281c02c08bc3ba8a816e7cedf916");
        cc_strset(&l->digest, "sha256:../../../../etc/passwd");
        assert_int_equal(flatten_name(&image, hex, &err), -CC_CORRUPT);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_cases), cmocka_unit_test(test_attributes),
                cmocka_unit_test(test_data),  cmocka_unit_test(test_stop),
                cmocka_unit_test(test_name),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

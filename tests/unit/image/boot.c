/* The choice of kernel and initramfs, on a tree written down as text. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/alloc.h"
#include "image/pull/boot.h"

/* One layer: lines "f path", "d path", "o path" (opaque directory), "w path" (whiteout), "l path"
 * (something else). The root exists always. */
struct text_tree {
        const char *layers[4];
};

static char kind_of(const char *text, const char *path)
{
        CC_STRV struct cc_strv lines = { 0 };
        const char *line;

        cc_split(text, "\n", &lines);
        cc_strv_foreach (&lines, i, line)
                if (cc_streq(line[1] ? line + 2 : "", path))
                        return line[0];
        return *path ? '\0' : 'd';
}

static int lookup(void *ctx, size_t layer, const char *path, struct node *ret, struct cc_err *err)
{
        const struct text_tree *t = ctx;
        char kind = kind_of(t->layers[layer], path);

        *ret = (struct node){ 0 };
        switch (kind) {
        case 'f':
                ret->type = NODE_FILE;
                ret->size = 1;
                break;
        case 'o':
        case 'd':
                ret->type = NODE_DIR;
                ret->opaque = kind == 'o';
                break;
        case 'w':
                ret->type = NODE_WHITEOUT;
                break;
        case 'l':
                ret->type = NODE_OTHER;
                break;
        default:
                ret->type = NODE_ABSENT;
        }
        return 0;
}

static int list(void *ctx, size_t layer, const char *dir, struct cc_strv *ret, struct cc_err *err)
{
        const struct text_tree *t = ctx;
        CC_STRV struct cc_strv lines = { 0 };
        const char *line;
        size_t n = strlen(dir);

        cc_split(t->layers[layer], "\n", &lines);
        cc_strv_foreach (&lines, i, line) {
                const char *path = line[1] ? line + 2 : "";

                if (n && (strncmp(path, dir, n) != 0 || path[n] != '/'))
                        continue;
                path += n ? n + 1 : 0;
                if (*path && !strchr(path, '/'))
                        cc_strv_add(ret, path);
        }
        return 0;
}

static void assert_choice(const char *const *layers, const char *kernel_label,
                          const char *initrd_label, const char *want)
{
        struct text_tree text = { 0 };
        struct layer_tree tree = { .ctx = &text, .lookup = lookup, .list = list };
        CC_CLEANUP(boot_file_clear) struct boot_file k = { 0 };
        CC_CLEANUP(boot_file_clear) struct boot_file i = { 0 };
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *got = NULL;

        for (; layers[tree.n]; tree.n++)
                text.layers[tree.n] = layers[tree.n];
        if (boot_choose(&tree, kernel_label, initrd_label, &k, &i, &err) < 0)
                got = xasprintf("error: %s", err.msg);
        else
                got = xasprintf("%s@%zu %s@%zu", k.path, k.layer, i.path, i.layer);
        if (!strstr(got, want))
                fail_msg("got \"%s\", want \"%s\"", got, want);
}

#define CHOICE(want, ...)                                                                          \
        assert_choice((const char *const[]){ __VA_ARGS__, NULL }, NULL, NULL, want)

static void test_pairs(void **state)
{
        CHOICE("boot/vmlinuz-6.1@0 boot/initrd.img-6.1@0",
               "d boot\nf boot/vmlinuz-6.1\nf boot/initrd.img-6.1");
        /* The highest version with both: 6.10 has no initramfs, 6.9 is older than 6.9-2. */
        CHOICE("boot/vmlinuz-6.9-2@0 boot/initrd.img-6.9-2@0",
               "d boot\nf boot/vmlinuz-6.10\nf boot/vmlinuz-6.9\nf boot/initrd.img-6.9\n"
               "f boot/vmlinuz-6.9-2\nf boot/initrd.img-6.9-2");
        CHOICE("boot/vmlinuz-6.10@0 boot/initrd.img-6.10@1",
               "d boot\nf boot/vmlinuz-6.10\nf boot/vmlinuz-6.9\nf boot/initrd.img-6.9",
               "d boot\nf boot/initrd.img-6.10");
        /* Links at the root are not files. */
        CHOICE("boot/vmlinuz-6.1@0 boot/initrd.img-6.1@0",
               "l vmlinuz\nl initrd.img\nd boot\nf boot/vmlinuz-6.1\nf boot/initrd.img-6.1");
        CHOICE("vmlinuz@0 initrd.img@0", "f vmlinuz\nf initrd.img");
        /* /boot goes before /. */
        CHOICE("boot/vmlinuz@0 boot/initrd.img@0",
               "f vmlinuz\nf initrd.img\nd boot\nf boot/vmlinuz\nf boot/initrd.img");
        /* One of each pairs whatever they are called. */
        CHOICE("boot/vmlinuz-virt@0 boot/initrd.img@0",
               "d boot\nf boot/vmlinuz-virt\nf boot/initrd.img");
        CHOICE("boot/vmlinuz-6.1@0 boot/initrd.img-6.1@0",
               "d boot\nf boot/vmlinuz-6.1\nf boot/initrd.img-6.1\nf boot/vmlinuz-6.2.old\n"
               "f boot/initrd.img-6.2.old");
}

static void test_layers_hide_files(void **state)
{
        static const char base[] = "d boot\nf boot/vmlinuz-2\nf boot/initrd.img-2\n"
                                   "f boot/vmlinuz-1\nf boot/initrd.img-1";

        CHOICE("boot/vmlinuz-1@0 boot/initrd.img-1@0", base, "d boot\nw boot/vmlinuz-2");
        CHOICE("boot/vmlinuz-3@1 boot/initrd.img-3@1", base,
               "o boot\nf boot/vmlinuz-3\nf boot/initrd.img-3");
        CHOICE("missing boot files", base, "w boot");
        CHOICE("missing boot files", base, "o ");
        CHOICE("missing boot files", base, "l boot");
        CHOICE("boot/vmlinuz-1@0", base, "d boot\nl boot/vmlinuz-2");
        CHOICE("boot/vmlinuz-2@2", base, "w boot", "d boot\nf boot/vmlinuz-2\nf boot/initrd.img-2");
        /* A new copy of the same file belongs to the upper layer. */
        CHOICE("boot/vmlinuz-2@1 boot/initrd.img-2@0", base, "d boot\nf boot/vmlinuz-2");
}

static void test_error_lists_candidates(void **state)
{
        CHOICE("kernels: none; initramfs: none", "d etc");
        CHOICE("kernels: /boot/vmlinuz-1, /boot/vmlinuz-2; initramfs: /boot/initrd.img-3",
               "d boot\nf boot/vmlinuz-1\nf boot/vmlinuz-2\nf boot/initrd.img-3");
}

static void test_labels(void **state)
{
        static const char *const layers[] = { "d boot\nf boot/vmlinuz-9\nf boot/initrd.img-9\n"
                                              "d k\nf k/a\nf k/b",
                                              NULL };

        assert_choice(layers, "/k/a", "./k/b", "k/a@0 k/b@0");
        assert_choice(layers, "/k/a", NULL, "only one of the labels");
        assert_choice(layers, "/k/a", "/k/c", "names /k/c, which is no regular file");
        assert_choice(layers, "/k/../k/a", "/k/b", "no regular file");
        assert_choice(layers, "/", "/k/b", "is not a path");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_pairs),
                cmocka_unit_test(test_layers_hide_files),
                cmocka_unit_test(test_error_lists_candidates),
                cmocka_unit_test(test_labels),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

/* vmlinux extraction: synthetic kernels of every compression, real tools for the odd ones, damage.
 */
#include "support.h"

#include "base/proc.h"
#include "image/pull/vmlinux.h"

enum { SETUP_SECTS = 4, PAYLOAD_OFFSET = 100, ELF_LEN = 300000 };

static void put_le(char *p, uint64_t v, unsigned n)
{
        for (unsigned i = 0; i < n; i++)
                p[i] = (char)(v >> (8 * i));
}

/* A bzImage around a payload that holds its own size word. */
static void bzimage(struct cc_buf *out, const void *payload, size_t n)
{
        char setup[(SETUP_SECTS + 1) * 512] = { 0 };

        setup[0x1f1] = SETUP_SECTS;
        put_le(setup + 0x1fe, 0xaa55, 2);
        memcpy(setup + 0x202, "HdrS", 4);
        put_le(setup + 0x206, 0x020f, 2);
        put_le(setup + 0x248, PAYLOAD_OFFSET, 4);
        put_le(setup + 0x24c, n, 4);
        cc_buf_add(out, setup, sizeof(setup));
        for (int i = 0; i < PAYLOAD_OFFSET; i++)
                cc_buf_str(out, "\x1f"); /* no magic search may be misled */
        cc_buf_add(out, payload, n);
        cc_buf_str(out, "trailing");
}

static char *elf(void)
{
        char *p = noise(ELF_LEN, 3);

        memset(p + 1000, 0, ELF_LEN / 2);
        memcpy(p,
               "\x7f"
               "ELF",
               4);
        return p;
}

static void write_buf(const char *path, const struct cc_buf *b)
{
        struct cc_err err = CC_ERR_INIT;

        assert_ok(cc_publish(path, b->data, b->len, 0600, &err), &err);
}

struct files {
        char dir[32];
        char *kernel, *out;
};

static int setup(void **state)
{
        struct files *f = xcalloc(1, sizeof(*f));

        (void)snprintf(f->dir, sizeof(f->dir), "/tmp/cocoon-vmlinux-XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        f->kernel = xasprintf("%s/vmlinuz", f->dir);
        f->out = xasprintf("%s/vmlinux", f->dir);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct files *f = *state;

        (void)cc_rm_rf(f->dir, NULL);
        free(f->kernel);
        free(f->out);
        free(f);
        return 0;
}

static void assert_extracts(const struct files *f, const char *want, size_t n)
{
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *got = NULL;
        size_t len;

        assert_ok(vmlinux_extract(f->kernel, f->out, &err), &err);
        assert_ok(cc_read_file(f->out, 1 << 30, &got, &len, &err), &err);
        assert_int_equal(len, n);
        assert_memory_equal(got, want, n);
}

/* Compress with the tool, as the kernel build does. */
static void tool(const struct files *f, const char *const *argv, const char *data,
                 struct cc_buf *out)
{
        CC_CLEANUP(cc_run_result_free) struct cc_run_result r = { 0 };
        struct cc_err err = CC_ERR_INIT;

        assert_ok(cc_run(argv, data, ELF_LEN, 16 << 20, 60000, &r, &err), &err);
        assert_int_equal(r.status, 0);
        cc_buf_add(out, r.out.data, r.out.len);
}

static void test_compressions(void **state)
{
        static const struct {
                const char *argv[6];
                bool size_word; /* gzip's own trailer has it */
        } rows[] = {
                { { "gzip", "-9n" }, false },
                { { "xz", "--check=crc32", "-6" }, true },
                { { "xz", "--format=lzma", "-6" }, true },
                { { "bzip2", "-9" }, true },
                { { "zstd", "-q", "-3" }, true },
                { { "lz4", "-q", "-l", "-9", "-", "-" }, true },
        };
        struct files *f = *state;
        CC_FREE char *plain = elf();

        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                const char *argv[8] = { 0 };
                CC_BUF struct cc_buf payload = { 0 };
                CC_BUF struct cc_buf kernel = { 0 };
                CC_FREE char *program = cc_find_program(rows[i].argv[0]);
                char word[4];

                if (!program) {
                        print_message("%s is not installed\n", rows[i].argv[0]);
                        continue;
                }
                memcpy(argv, rows[i].argv, sizeof(rows[i].argv));
                tool(f, argv, plain, &payload);
                put_le(word, ELF_LEN, 4);
                if (rows[i].size_word)
                        cc_buf_add(&payload, word, 4);
                bzimage(&kernel, payload.data, payload.len);
                write_buf(f->kernel, &kernel);
                assert_extracts(f, plain, ELF_LEN);
        }
}

static void test_elf_passes_through(void **state)
{
        struct files *f = *state;
        CC_FREE char *plain = elf();
        struct cc_buf b = { .data = plain, .len = ELF_LEN };
        CC_BUF struct cc_buf kernel = { 0 };

        write_buf(f->kernel, &b);
        assert_extracts(f, plain, ELF_LEN);
        bzimage(&kernel, plain, ELF_LEN);
        write_buf(f->kernel, &kernel);
        assert_extracts(f, plain, ELF_LEN);
}

static void assert_refused(const struct files *f, const struct cc_buf *kernel, const char *why)
{
        struct cc_err err = CC_ERR_INIT;

        write_buf(f->kernel, kernel);
        if (vmlinux_extract(f->kernel, f->out, &err) == 0)
                fail_msg("accepted (%s)", why);
        if (!strstr(err.msg, why))
                fail_msg("\"%s\" is not in: %s", why, err.msg);
        assert_false(cc_exists(f->out));
}

static void test_damage(void **state)
{
        struct files *f = *state;
        CC_FREE char *plain = elf();
        CC_BUF struct cc_buf gz = { 0 };
        CC_BUF struct cc_buf kernel = { 0 };
        CC_BUF struct cc_buf text = { 0 };
        size_t full;

        compress_buf(&gz, plain, ELF_LEN, ARCHIVE_FILTER_GZIP);
        bzimage(&kernel, gz.data, gz.len);
        full = kernel.len;
        for (size_t n = 0; n < 0x260; n += 37) {
                kernel.len = n + 1;
                assert_refused(f, &kernel, "neither a bzImage nor an ELF");
                if (n > 0x200)
                        break;
        }
        kernel.len = 0x250;
        assert_refused(f, &kernel, "truncated kernel");
        kernel.len = full - 200;
        assert_refused(f, &kernel, "truncated kernel");
        kernel.len = full;
        /* The announced size is not what comes out. */
        kernel.data[sizeof(char[(SETUP_SECTS + 1) * 512]) + PAYLOAD_OFFSET + gz.len - 4] ^= 1;
        assert_refused(f, &kernel, "");
        put_le(kernel.data + 0x24c, 0xfffffff0, 4);
        assert_refused(f, &kernel, "truncated kernel");
        put_le(kernel.data + 0x24c, gz.len, 4);
        put_le(kernel.data + 0x248, 0xfffffff0, 4);
        assert_refused(f, &kernel, "truncated kernel");
        put_le(kernel.data + 0x248, 0, 4);
        assert_refused(f, &kernel, "unknown compression");
        put_le(kernel.data + 0x206, 0x0204, 2);
        assert_refused(f, &kernel, "boot protocol 2.04 is too old");

        /* Not an ELF inside. */
        plain[0] = 'X';
        gz.len = 0;
        kernel.len = 0;
        compress_buf(&gz, plain, ELF_LEN, ARCHIVE_FILTER_GZIP);
        bzimage(&kernel, gz.data, gz.len);
        assert_refused(f, &kernel, "not an ELF");
        cc_buf_str(&text, "#!/bin/sh\n");
        assert_refused(f, &text, "neither a bzImage nor an ELF");
}

/* The kernel of the machine, when there is one: whatever it is compressed with. */
static void test_a_real_kernel(void **state)
{
        struct files *f = *state;
        const char *path = getenv("COCOON_TEST_KERNEL");
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *head = NULL;

        if (cc_isempty(path)) {
                print_message("skipped: COCOON_TEST_KERNEL names no kernel\n");
                skip();
        }
        assert_ok(vmlinux_extract(path, f->out, &err), &err);
        assert_ok(cc_read_file(f->out, 1 << 30, &head, NULL, &err), &err);
        assert_memory_equal(head,
                            "\x7f"
                            "ELF",
                            4);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_compressions, setup, teardown),
                cmocka_unit_test_setup_teardown(test_elf_passes_through, setup, teardown),
                cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_real_kernel, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

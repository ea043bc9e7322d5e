/* Escape character notation and the detach state machine (cli.md §7). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "console/console.h"
#include "console/escape.h"

static void parse_accepts(void **state)
{
        static const struct {
                const char *text;
                unsigned char byte;
        } rows[] = {
                { "^]", 0x1d }, { "^A", 1 },  { "^a", 1 },  { "^z", 26 },     { "^_", 31 },
                { "^[", 27 },   { "~", '~' }, { "^", '^' }, { "\x1d", 0x1d }, { " ", ' ' },
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                unsigned char byte = 0;

                assert_int_equal(console_escape_parse(rows[i].text, &byte, NULL), 0);
                assert_int_equal(byte, rows[i].byte);
        }
}

static void parse_refuses(void **state)
{
        static const char *const rows[] = { "",     "^@",  "^m", "^J", "\r",  "\n", "\x7f",
                                            "\x80", "abc", "^{", "^1", "^]x", "^?" };

        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                struct cc_err err = CC_ERR_INIT;
                unsigned char byte = 0x55;

                assert_int_equal(console_escape_parse(rows[i], &byte, &err), -CC_INVALID);
                assert_int_equal(byte, 0x55);
                assert_non_null(strstr(err.msg, "invalid escape character"));
        }
}

/* Every row is fed whole and byte by byte: where reads are split must not matter. */
static void feed_table(void **state)
{
        static const struct {
                const char *in, *out;
                bool detach;
        } rows[] = {
                { "hello", "hello", false },
                { "a\x1d.b", "a", true },
                { "\x1d.", "", true },
                { "\x1dx", "\x1dx", false },
                { "\x1d\x1d.", "\x1d\x1d.", false }, /* the second byte ends the first's wait */
                { "\x1d\x1d\x1d.", "\x1d\x1d", true },
                { "\x1dx.", "\x1dx.", false },
                { ".\x1d", ".", false }, /* held back */
                { "\x1d\r.", "\x1d\r.", false },
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++)
                for (size_t step = 1; step <= 16; step += 15) {
                        struct console_escape e = { .byte = 0x1d };
                        const unsigned char *in = (const unsigned char *)rows[i].in;
                        size_t n = strlen(rows[i].in);
                        unsigned char out[64];
                        size_t total = 0;
                        bool detach = false;

                        for (size_t at = 0; at < n && !detach; at += step) {
                                size_t part = n - at < step ? n - at : step;
                                size_t len = 99;

                                detach = console_escape_feed(&e, in + at, part, out + total, &len);
                                assert_true(len <= part + 1);
                                total += len;
                        }
                        assert_int_equal(detach, rows[i].detach);
                        assert_int_equal(total, strlen(rows[i].out));
                        assert_memory_equal(out, rows[i].out, total);
                }
}

static void names(void **state)
{
        char name[3];

        console_escape_name(0x1d, name);
        assert_string_equal(name, "^]");
        console_escape_name('~', name);
        assert_string_equal(name, "~");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(parse_accepts),
                cmocka_unit_test(parse_refuses),
                cmocka_unit_test(feed_table),
                cmocka_unit_test(names),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

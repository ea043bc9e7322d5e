/* Frames: the lines of the older agent byte for byte, binary frames, limits, and what we send. */
#include "agent/frame.h"

#include <string.h>

#include "unit.h"

static void feed(struct agent_reader *r, const char *data, size_t n)
{
        memcpy(agent_reader_room(r, n), data, n);
        agent_reader_got(r, n);
}

static void feed_text(struct agent_reader *r, const char *text)
{
        feed(r, text, strlen(text));
}

/* As an agent of version 0.1 or 0.2 sends them. */
static void test_recorded(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        struct agent_reader r = { 0 };
        struct agent_frame f;

        (void)state;
        feed_text(&r, "{\"type\":\"started\",\"pid\":412}\n"
                      "{\"type\":\"stdout\",\"data\":\"aGVsbG8K\"}\n"
                      "{\"type\":\"stderr\",\"data\":\"AP+A\"}\r\n"
                      "{\"type\":\"error\",\"message\":\"exec: start \\u003cx\\u003e: gone\"}\n"
                      "{\"type\":\"exit\",\"exit_code\":-1}\n"
                      "{\"type\":\"later\",\"key\":{\"a\":[1]}}\n"
                      "{\"type\":\"exit\"}");
        assert_int_equal(agent_reader_next(&r, &f, &err), 1);
        assert_int_equal(f.type, AGENT_FRAME_STARTED);
        assert_int_equal(agent_reader_next(&r, &f, &err), 1);
        assert_int_equal(f.type, AGENT_FRAME_STDOUT);
        assert_int_equal(f.n, 6);
        assert_memory_equal(f.data, "hello\n", 6);
        assert_int_equal(agent_reader_next(&r, &f, &err), 1);
        assert_int_equal(f.type, AGENT_FRAME_STDERR);
        assert_int_equal(f.n, 3);
        assert_memory_equal(f.data, "\0\xff\x80", 3);
        assert_int_equal(agent_reader_next(&r, &f, &err), 1);
        assert_int_equal(f.type, AGENT_FRAME_ERROR);
        assert_string_equal(f.message, "exec: start <x>: gone");
        assert_int_equal(agent_reader_next(&r, &f, &err), 1);
        assert_int_equal(f.type, AGENT_FRAME_EXIT);
        assert_int_equal(f.exit_code, -1);
        assert_int_equal(agent_reader_next(&r, &f, &err), 1);
        assert_int_equal(f.type, AGENT_FRAME_OTHER);
        /* The last line has no newline: it counts once nothing more can come. */
        assert_int_equal(agent_reader_next(&r, &f, &err), 0);
        r.eof = true;
        assert_int_equal(agent_reader_next(&r, &f, &err), 1);
        assert_int_equal(f.type, AGENT_FRAME_EXIT);
        assert_int_equal(f.exit_code, 0);
        assert_int_equal(agent_reader_next(&r, &f, &err), 0);
        agent_reader_clear(&r);
}

/* However the stream is cut, the same frames come out. */
static void test_pieces(void **state)
{
        static const char text[] = "{\"type\":\"stdout\",\"data\":\"YWJj\"}\n"
                                   "{\"data\":\"ZGVm\", \"type\":\"stdout\"}\n"
                                   "{\"type\":\"exit\",\"exit_code\":7}\n";
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        for (size_t step = 1; step < sizeof(text); step++) {
                struct agent_reader r = { 0 };
                char got[8] = "";
                size_t n = 0;
                int64_t code = -1;

                for (size_t at = 0; at < sizeof(text) - 1; at += step) {
                        size_t k = sizeof(text) - 1 - at < step ? sizeof(text) - 1 - at : step;
                        struct agent_frame f;

                        feed(&r, text + at, k);
                        while (agent_reader_next(&r, &f, &err) == 1) {
                                if (f.type == AGENT_FRAME_EXIT) {
                                        code = f.exit_code;
                                        continue;
                                }
                                memcpy(got + n, f.data, f.n);
                                n += f.n;
                        }
                }
                assert_int_equal(n, 6);
                assert_memory_equal(got, "abcdef", 6);
                assert_int_equal(code, 7);
                agent_reader_clear(&r);
        }
}

static void test_malformed(void **state)
{
        static const char *const lines[] = {
                "\n",
                "hello\n",
                "[]\n",
                "{\"type\":7}\n",
                "{\"type\":\"stdout\",\"data\":\"%%%%\"}\n",
                "{\"type\":\"stdout\",\"data\":\"YQ\"}\n",
                "{\"type\":\"exit\",\"exit_code\":\"0\"}\n",
                "{\"type\":\"exit\"} {}\n",
                "{\"a\":[[[[[[[[1]]]]]]]]}\n",
        };

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(lines); i++) {
                struct cc_err err = CC_ERR_INIT;
                struct agent_reader r = { 0 };
                struct agent_frame f;

                feed_text(&r, lines[i]);
                assert_int_equal(agent_reader_next(&r, &f, &err), -CC_INVALID);
                agent_reader_clear(&r);
        }
}

/* A line that does not end is refused at the limit, not collected. */
static void test_long_line(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        struct agent_reader r = { 0 };
        struct agent_frame f;
        size_t piece = (size_t)1 << 20;
        int e = 0;

        (void)state;
        for (size_t i = 0; i < 9 && e == 0; i++) {
                memset(agent_reader_room(&r, piece), 'x', piece);
                agent_reader_got(&r, piece);
                e = agent_reader_next(&r, &f, &err);
                if (i < 7)
                        assert_int_equal(e, 0);
        }
        assert_int_equal(e, -CC_INVALID);
        assert_non_null(strstr(err.msg, "longer than 8388608 bytes"));
        agent_reader_clear(&r);
}

static void test_raw(void **state)
{
        static const char bytes[] = "\1\3\0\0abc"
                                    "\2\1\0\0\n"
                                    "\1\0\0\0"
                                    "\7\2\0\0zz"
                                    "\3\x1f\0\0{\"type\":\"exit\",\"exit_code\":255}";
        static const size_t types[] = { AGENT_FRAME_STDOUT, AGENT_FRAME_STDERR, AGENT_FRAME_STDOUT,
                                        AGENT_FRAME_OTHER, AGENT_FRAME_EXIT };
        struct cc_err err = CC_ERR_INIT;
        struct agent_reader r = { .raw = true };
        struct agent_frame f;
        size_t seen = 0;

        (void)state;
        for (size_t i = 0; i < sizeof(bytes) - 1; i++) {
                feed(&r, bytes + i, 1);
                if (agent_reader_next(&r, &f, &err) != 1)
                        continue;
                assert_int_equal(f.type, types[seen]);
                if (seen == 0)
                        assert_memory_equal(f.data, "abc", 3);
                seen++;
        }
        assert_int_equal(seen, 5);
        assert_int_equal(f.exit_code, 255);
        /* Cut off within a frame, and longer than any frame. */
        feed(&r, "\1\3\0\0a", 5);
        r.eof = true;
        assert_int_equal(agent_reader_next(&r, &f, &err), -CC_INVALID);
        agent_reader_clear(&r);
        r = (struct agent_reader){ .raw = true };
        feed(&r, "\1\xff\xff\xff", 4);
        assert_int_equal(agent_reader_next(&r, &f, &err), -CC_INVALID);
        agent_reader_clear(&r);
}

/* Until the hello of a serial port everything else is passed over. */
static void test_skip(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        struct agent_reader r = { .skip = true };
        struct agent_frame f;

        (void)state;
        feed_text(&r, "YWJj\"}\n\n{\"type\":\n{\"type\":\"hello\",\"nonce\":\"12\"}\n");
        assert_int_equal(agent_reader_next(&r, &f, &err), 1);
        assert_int_equal(f.type, AGENT_FRAME_HELLO);
        assert_string_equal(f.nonce, "12");
        agent_reader_clear(&r);
}

static void test_sent(void **state)
{
        CC_BUF struct cc_buf out = { 0 };
        CC_BUF struct cc_buf raw = { 0 };

        (void)state;
        agent_frame_hello(&out, "ab", true);
        agent_frame_hello(&out, "cd", false);
        agent_frame_stdin(&out, false, "hi\n", 3);
        agent_frame_resize(&out, false, 24, 80);
        agent_frame_stdin_close(&out, false);
        assert_string_equal(out.data, "\n{\"type\":\"hello\",\"nonce\":\"ab\"}\n"
                                      "{\"type\":\"hello\",\"nonce\":\"cd\"}\n"
                                      "{\"type\":\"stdin\",\"data\":\"aGkK\"}\n"
                                      "{\"type\":\"resize\",\"rows\":24,\"cols\":80}\n"
                                      "{\"type\":\"stdin_close\"}\n");
        agent_frame_stdin(&raw, true, "hi\n", 3);
        agent_frame_stdin_close(&raw, true);
        assert_int_equal(raw.len, 7 + 4 + 22);
        assert_memory_equal(raw.data, "\0\3\0\0hi\n\3\x16\0\0{\"type\":\"stdin_close\"}", raw.len);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_recorded),  cmocka_unit_test(test_pieces),
                cmocka_unit_test(test_malformed), cmocka_unit_test(test_long_line),
                cmocka_unit_test(test_raw),       cmocka_unit_test(test_skip),
                cmocka_unit_test(test_sent),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

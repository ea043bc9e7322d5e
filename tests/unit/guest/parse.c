/* The agent's parsers: base64, JSON, frames; and SHA-256 against its published vectors. */
#include <string.h>

#include "unit.h"

#include "base64.h"
#include "frame.h"
#include "sha256.h"

static void base64_vectors(void **state)
{
        static const struct {
                const char *bytes;
                const char *text;
        } rows[] = {
                { "", "" },
                { "f", "Zg==" },
                { "fo", "Zm8=" },
                { "foo", "Zm9v" },
                { "foob", "Zm9vYg==" },
                { "fooba", "Zm9vYmE=" },
                { "foobar", "Zm9vYmFy" },
        };

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                char text[16] = "";
                size_t n = strlen(rows[i].bytes);

                base64_encode(text, rows[i].bytes, n);
                assert_string_equal(text, rows[i].text);
                assert_int_equal(base64_decode(text, text, strlen(text)), n);
                assert_memory_equal(text, rows[i].bytes, n);
        }
}

static void base64_round_trip(void **state)
{
        unsigned char bytes[256];
        char text[BASE64_LEN(256)];

        for (size_t n = 0; n <= 256; n++) {
                for (size_t i = 0; i < n; i++)
                        bytes[i] = (unsigned char)(i * 7 + n);
                base64_encode(text, bytes, n);
                assert_int_equal(base64_decode(text, text, BASE64_LEN(n)), n);
                assert_memory_equal(text, bytes, n);
        }
}

static void base64_refused(void **state)
{
        static const char *const rows[] = {
                "A",      "AA",   "AAA",   "A===", "====",    "AA=A",     "=AAA",     "AA-_",
                "AAAA\n", "AA A", "AAA\n", "A=AA", "AAA\x80", "AA==AAAA", "AAA=AAAA", "AA="
        };

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                char out[16];

                assert_int_equal(base64_decode(out, rows[i], strlen(rows[i])), -1);
        }
}

/* In storage of exactly its size, so that a step too far is seen. */
static const char *decode(const char *text, size_t n, struct frame *ret, char **ret_line)
{
        *ret_line = xmalloc(n ? n : 1);
        memcpy(*ret_line, text, n);
        return frame_decode(*ret_line, n, ret);
}

static void decodes_exec(void **state)
{
        static const char text[] =
                "{\"type\":\"exec\",\"argv\":[\"sh\",\"-c\",\"a \\u003c b \\u0026\\u0026 "
                "\\\"c\\\"\",\"\",\"\\ud83d\\ude00\\ud800\"],\"x\":{\"y\":[1,-2.5e3,null,{}]},"
                " \"env\" : { \"A\" : \"b=c\" , \"E\":\"\" } , \"tty\" : true, \"rows\" : 24 }";
        static const char argv[] = "sh\0-c\0a < b && \"c\"\0\0\xf0\x9f\x98\x80\xef\xbf\xbd";
        static const char env[] = "A=b=c\0E=";
        CC_FREE char *line = NULL;
        struct frame f;

        assert_null(decode(text, sizeof(text) - 1, &f, &line));
        assert_int_equal(f.type, FRAME_EXEC);
        assert_int_equal(f.argv.count, 5);
        assert_memory_equal(f.argv.data, argv, sizeof(argv));
        assert_int_equal(f.env.count, 2);
        assert_memory_equal(f.env.data, env, sizeof(env));
        assert_true(f.tty);
        assert_false(f.raw);
        assert_int_equal(f.rows, 24);
        assert_int_equal(f.size, -1);
        assert_null(f.cwd.data);
}

static void last_key_wins_and_null_is_none(void **state)
{
        static const char text[] =
                "{\"type\":\"stdin\",\"type\":\"put\",\"size\":1,\"size\":9223372036854775807,"
                "\"path\":\"/a\",\"path\":\"/b\",\"mode\":null,\"argv\":null,\"user\":null}\r";
        CC_FREE char *line = NULL;
        struct frame f;

        assert_null(decode(text, sizeof(text) - 1, &f, &line));
        assert_int_equal(f.type, FRAME_PUT);
        assert_int_equal(f.size, INT64_MAX);
        assert_int_equal(f.mode, -1);
        assert_string_equal(f.path.data, "/b");
        assert_null(f.user.data);
}

static void refuses(void **state)
{
        static const char *const rows[] = {
                "",
                "[]",
                "null",
                "{",
                "{}x",
                "{}{}",
                "{\"type\"}",
                "{\"type\":}",
                "{\"type\":\"exec\"",
                "{\"type\":\"exec\",}",
                "{,}",
                "{\"a\":1 \"b\":2}",
                "{\"type\":1}",
                "{\"type\":\"a\nb\"}",
                "{\"type\":\"\\x\"}",
                "{\"type\":\"\\u12\"}",
                "{\"type\":\"\\",
                "{\"type\":\"\x80\"}",
                "{\"type\":\"\xc0\xaf\"}",
                "{\"type\":\"\xed\xa0\x80\"}",
                "{\"type\":\"\xf5\x80\x80\x80\"}",
                "{\"type\":\"\xe2\x82",
                "{\"argv\":\"sh\"}",
                "{\"argv\":[1]}",
                "{\"argv\":[\"a\\u0000b\"]}",
                "{\"argv\":[\"a\",]}",
                "{\"argv\":[\"a\" \"b\"]}",
                "{\"env\":[]}",
                "{\"env\":{\"A\":1}}",
                "{\"env\":{\"\":\"x\"}}",
                "{\"env\":{\"A=B\":\"x\"}}",
                "{\"env\":{\"A\":\"\\u0000\"}}",
                "{\"path\":\"\\u0000\"}",
                "{\"tty\":1}",
                "{\"tty\":truE}",
                "{\"rows\":1.5}",
                "{\"rows\":1e3}",
                "{\"rows\":01}",
                "{\"rows\":-}",
                "{\"size\":9223372036854775808}",
                "{\"size\":-9223372036854775809}",
                "{\"x\":01}",
                "{\"x\":1.}",
                "{\"x\":1e}",
                "{\"x\":nul}",
                "{\"x\":[[[[[[[[1]]]]]]]]}",
        };

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                CC_FREE char *line = NULL;
                struct frame f = { .rows = 77 };

                if (!decode(rows[i], strlen(rows[i]), &f, &line))
                        fail_msg("accepted: %s", rows[i]);
                assert_int_equal(f.rows, 77);
        }
}

static void deepest_allowed(void **state)
{
        static const char text[] = "{\"x\":[[[[[[[1]]]]]]],\"type\":\"ping\"}";
        CC_FREE char *line = NULL;
        struct frame f;

        assert_null(decode(text, sizeof(text) - 1, &f, &line));
        assert_int_equal(f.type, FRAME_PING);
}

static void writes_frames(void **state)
{
        struct buf out = { 0 };
        struct frame_writer w;
        static const char line[] = "{\"type\":\"error\",\"message\":\"a\\\"\\\\\\u000a\xc3\xa9\","
                                   "\"n\":-9223372036854775808}\n";

        frame_start(&w, &out, false, "error");
        frame_string(&w, "message", "a\"\\\n\xc3\xa9", 6);
        frame_int(&w, "n", INT64_MIN);
        frame_end(&w);
        assert_int_equal(out.len, sizeof(line) - 1);
        assert_memory_equal(buf_head(&out), line, sizeof(line) - 1);
        buf_consume(&out, out.len);

        frame_put_data(&out, RAW_STDERR, "hi", 2);
        assert_int_equal(out.len, 32);
        assert_memory_equal(buf_head(&out), "{\"type\":\"stderr\",\"data\":\"aGk=\"}\n", 32);
        buf_consume(&out, out.len);

        frame_start(&w, &out, true, "exit");
        frame_end(&w);
        assert_int_equal(out.len, 4 + 15);
        assert_memory_equal(buf_head(&out), "\3\17\0\0{\"type\":\"exit\"}", 19);
        buf_free(&out);
}

static void raw_header(void **state)
{
        char header[FRAME_RAW_HEADER];

        frame_raw_header(header, RAW_STDOUT, 0x123456);
        assert_memory_equal(header, "\1\x56\x34\x12", 4);
}

static void queue(void **state)
{
        struct buf b = { 0 };

        for (int i = 0; i < 1000; i++) {
                buf_puts(&b, "0123456789");
                assert_memory_equal(buf_head(&b), "0123456789"[i % 10] == '0' ? "0" : buf_head(&b),
                                    1);
                buf_consume(&b, 9);
                assert_int_equal(b.len, i + 1);
        }
        assert_memory_equal(buf_head(&b) + b.len - 3, "789", 3);
        buf_trim(&b, 16);
        assert_int_equal(b.len, 1000);
        buf_consume(&b, 1000);
        buf_trim(&b, 16);
        assert_null(b.data);
}

static void sha256_vectors(void **state)
{
        char text[SHA256_HEX + 1];
        struct sha256 h;
        char million[1000];

        sha256_begin(&h);
        sha256_hex(&h, text);
        assert_string_equal(text,
                            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        sha256_begin(&h);
        sha256_add(&h, "abc", 3);
        sha256_hex(&h, text);
        assert_string_equal(text,
                            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        sha256_begin(&h);
        sha256_add(&h, "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56);
        sha256_hex(&h, text);
        assert_string_equal(text,
                            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
        memset(million, 'a', sizeof(million));
        sha256_begin(&h);
        for (int i = 0; i < 1000; i++)
                sha256_add(&h, million, sizeof(million));
        sha256_hex(&h, text);
        assert_string_equal(text,
                            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(base64_vectors),
                cmocka_unit_test(base64_round_trip),
                cmocka_unit_test(base64_refused),
                cmocka_unit_test(decodes_exec),
                cmocka_unit_test(last_key_wins_and_null_is_none),
                cmocka_unit_test(refuses),
                cmocka_unit_test(deepest_allowed),
                cmocka_unit_test(writes_frames),
                cmocka_unit_test(raw_header),
                cmocka_unit_test(queue),
                cmocka_unit_test(sha256_vectors),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

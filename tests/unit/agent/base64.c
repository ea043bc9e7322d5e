/* Base64: every length, every byte, and what is refused. */
#include "agent/base64.h"

#include <string.h>

#include "unit.h"

static void test_vectors(void **state)
{
        static const struct {
                const char *plain, *text;
        } rows[] = {
                { "", "" },
                { "f", "Zg==" },
                { "fo", "Zm8=" },
                { "foo", "Zm9v" },
                { "foob", "Zm9vYg==" },
                { "fooba", "Zm9vYmE=" },
                { "foobar", "Zm9vYmFy" },
        };
        char out[64];
        size_t n;

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                size_t plain = strlen(rows[i].plain);
                size_t text = strlen(rows[i].text);

                assert_int_equal(agent_base64_len(plain), text);
                agent_base64_encode(rows[i].plain, plain, out);
                assert_memory_equal(out, rows[i].text, text);
                assert_int_equal(agent_base64_decode(rows[i].text, text, out, &n), 0);
                assert_int_equal(n, plain);
                assert_memory_equal(out, rows[i].plain, plain);
        }
}

static void test_round_trips(void **state)
{
        unsigned char data[512];
        char text[700];
        unsigned char back[512 + 3];
        size_t n;

        (void)state;
        for (size_t i = 0; i < sizeof(data); i++)
                data[i] = (unsigned char)(i * 7 + i / 256);
        for (size_t len = 0; len <= sizeof(data); len++) {
                agent_base64_encode(data, len, text);
                assert_int_equal(agent_base64_decode(text, agent_base64_len(len), back, &n), 0);
                assert_int_equal(n, len);
                assert_memory_equal(back, data, len);
        }
}

static void test_refused(void **state)
{
        static const char *const texts[] = { "Z",    "Zg",   "Zg=",      "Zg==Zg==",   "=g==",
                                             "Z===", "Zh==", "Zm9=",     "Zm 9",       "Zm9v\nYg",
                                             "Zm-v", "Zm_v", "Zm9vZ=g=", "\xc3\xa9==", "Zm9v=m9v" };
        char out[64];
        size_t n;

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(texts); i++)
                assert_int_equal(agent_base64_decode(texts[i], strlen(texts[i]), out, &n),
                                 -CC_INVALID);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_vectors),
                cmocka_unit_test(test_round_trips),
                cmocka_unit_test(test_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

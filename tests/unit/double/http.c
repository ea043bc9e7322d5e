/*
 * The VMMs' HTTP server, byte by byte: limits, reply forms, what a malformed request is told and
 * what becomes of its connection. On the double and on the real program.
 */
#include "support.h"

#define OWN "Server: Firecracker API|Connection: keep-alive|Content-Type: application/json|"
#define CH  "Server: Cloud Hypervisor API|Connection: keep-alive|Content-Type: application/json|"

static const char not_found[] = "HTTP/1.1 404 |" CH "Content-Length: 13||[\"Not Found\"]";
static const char dropped[] = "|All previous unanswered requests will be dropped.\" }";

/* CR LF and LF become '|': a table shows one line. */
static void flatten(char *s)
{
        char *to = s;

        for (; *s; s++) {
                if (*s == '\r')
                        continue;
                *to++ = *s == '\n' ? '|' : *s;
        }
        *to = '\0';
}

/* The answer to these bytes: `until` is in it, or NULL when there should be none. */
static char *say(const char *bytes, size_t n, const char *until)
{
        int fd = dial("a.sock");
        char *answer;

        assert_true(fd >= 0);
        assert_int_equal(send(fd, bytes, n, MSG_NOSIGNAL), n);
        answer = hear(fd, until);
        flatten(answer);
        close(fd);
        return answer;
}

/* What the library itself refuses, with the length of its words. */
static char *refusal(const char *why)
{
        CC_FREE char *body = xasprintf("{ \"error\": \"%s%s", why, dropped);

        return xasprintf("HTTP/1.1 400 |" OWN "Content-Length: %zu||%s", strlen(body), body);
}

static void test_malformed(void **state)
{
        static const struct {
                const char *bytes, *why;
        } rows[] = {
                { "GET / HTTP/2.0\r\n\r\n", "Invalid HTTP Version: Unsupported HTTP version." },
                { "get / HTTP/1.1\r\n\r\n", "Invalid HTTP Method: Unsupported HTTP method." },
                { "POST / HTTP/1.1\r\n\r\n", "Invalid HTTP Method: Unsupported HTTP method." },
                { "DELETE / HTTP/1.1\r\n\r\n", "Invalid HTTP Method: Unsupported HTTP method." },
                { "GET\r\n\r\n", "Invalid request." },
                { "GET  HTTP/1.1\r\n\r\n", "Invalid URI: Empty URI not allowed." },
                { "GET / HTTP/1.1\r\nnocolon\r\n\r\n",
                  "Invalid header. Reason: Header is incorrectly formatted. Key: nocolon" },
                { "GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
                  "Invalid header. Reason: Invalid value. Key:Content-Length; Value: x" },
                { "GET / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
                  "Invalid header. Reason: Invalid value. Key:content-length; Value: -1" },
                { "GET / HTTP/1.1\r\nContent-Length: 4294967296\r\n\r\n",
                  "Invalid header. Reason: Invalid value. Key:Content-Length; Value: 4294967296" },
                { "PUT / HTTP/1.1\r\nContent-Length: 51201\r\n\r\n",
                  "Request payload with size 51201 is larger than the limit of 51200 allowed by "
                  "server." },
                { "GET / HTTP/1.1\r\nAccept-Encoding: identity;q=0\r\n\r\n",
                  "Invalid header. Reason: Invalid value. Key:Accept-Encoding; "
                  "Value:identity;q=0" },
                { "GET / HTTP/1.1\r\nX: \xff\r\n\r\n",
                  "Invalid header. Reason: Header contains invalid characters. Key: invalid utf-8 "
                  "sequence of 1 bytes from index 3" },
                /* A good request in the same read is dropped with the bad one. */
                { "GET /x HTTP/1.1\r\n\r\nGET junk\r\n\r\n", "Invalid request." },
        };
        struct vmm v = vmm_start("");

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                CC_FREE char *got = say(rows[i].bytes, strlen(rows[i].bytes), "\r\n\r\n");
                CC_FREE char *want = refusal(rows[i].why);

                assert_string_equal(got, want);
        }
        assert_int_equal(vmm_end(v, SIGTERM), 0);
}

static void test_accepted(void **state)
{
        static const struct {
                const char *bytes, *answer;
        } rows[] = {
                { "GET /x HTTP/1.0\r\n\r\n", not_found },
                { "GET x HTTP/1.1\r\n\r\n", not_found },
                { "GET http://localhost/x HTTP/1.1\r\n\r\n", not_found },
                { "GET /api/v1/vmm.ping?x HTTP/1.1\r\n\r\n", not_found },
                { "GET /x HTTP/1.1\r\nContent-Length: +2\r\n\r\n{}", not_found },
                { "GET /x HTTP/1.1\r\nAccept: text/html\r\nContent-Type: x/y\r\n\r\n", not_found },
                { "PATCH /api/v1/vm.info HTTP/1.1\r\n\r\n",
                  "HTTP/1.1 400 |" CH "Content-Length: 15||[\"Bad Request\"]" },
                /* Endpoints of the general kind have no words for other methods. */
                { "PATCH /api/v1/vm.boot HTTP/1.1\r\n\r\n",
                  "HTTP/1.1 400 |" CH "Content-Length: 0||" },
                { "PUT /api/v1/vm.create HTTP/1.1\r\n\r\n",
                  "HTTP/1.1 400 |" CH "Content-Length: 0||" },
                { "PUT /api/v1/vm.delete HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
                  "HTTP/1.1 204 |Server: Cloud Hypervisor API|Connection: keep-alive||" },
                { "PUT /x HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
                  "HTTP/1.1 100 |Server: Firecracker API|Connection: keep-alive||"
                  "HTTP/1.1 404 |" CH "Content-Length: 13||[\"Not Found\"]" },
                /* Two requests in one read. */
                { "PUT /api/v1/vm.delete HTTP/1.1\r\n\r\nGET /x HTTP/1.1\r\n\r\n",
                  "HTTP/1.1 204 |Server: Cloud Hypervisor API|Connection: keep-alive||"
                  "HTTP/1.1 404 |" CH "Content-Length: 13||[\"Not Found\"]" },
        };
        struct vmm v = vmm_start("");

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                CC_FREE char *got = say(rows[i].bytes, strlen(rows[i].bytes), "\r\n\r\n");

                assert_string_equal(got, rows[i].answer);
        }
        assert_int_equal(vmm_end(v, SIGTERM), 0);
}

/* A line of 1024 bytes is too long, and the rest of it is read as lines of its own. */
static void test_long_lines(void **state)
{
        CC_BUF struct cc_buf line = { 0 };
        CC_FREE char *got = NULL;
        CC_FREE char *head = NULL;
        CC_FREE char *want = refusal("Invalid request.");
        struct vmm v = vmm_start("");

        (void)state;
        cc_buf_str(&line, "GET /");
        while (line.len < 1022 - strlen(" HTTP/1.1"))
                cc_buf_char(&line, 'a');
        cc_buf_str(&line, " HTTP/1.1\r\n");
        assert_int_equal(line.len, 1024);
        head = say(line.data, line.len, NULL);
        assert_string_equal(head, ""); /* fits, and waits for its end */
        line.data[line.len - 2] = 'b';
        line.data[line.len - 1] = 'b';
        got = say(line.data, line.len, "dropped");
        assert_string_equal(got, want);
        assert_int_equal(vmm_end(v, SIGTERM), 0);
}

/* The largest body there may be, in pieces. */
static void test_large_body(void **state)
{
        static const char head[] =
                "PUT /api/v1/vm.create HTTP/1.1\r\nContent-Length: 51200\r\n\r\n";
        struct vmm v = vmm_start("");
        int fd = dial("a.sock");
        CC_FREE char *body = xmalloc(51200);
        ANSWER struct answer a = { 0 };

        (void)state;
        memset(body, ' ', 51200);
        assert_int_equal(send(fd, head, strlen(head), MSG_NOSIGNAL), strlen(head));
        for (int at = 0; at < 51200; at += 1600)
                assert_int_equal(send(fd, body + at, 1600, MSG_NOSIGNAL), 1600);
        a = listen_reply(fd);
        assert_int_equal(a.status, 400);
        assert_string_equal(a.body,
                            "[\"Failed to deserialize JSON\",\"EOF while parsing a value\"]");
        close(fd);
        assert_int_equal(vmm_end(v, SIGTERM), 0);
}

static void test_one_connection_too_many(void **state)
{
        struct vmm v = vmm_start("");
        CC_FREE char *got = NULL;
        int fds[11];

        (void)state;
        usleep(100000); /* until the first connection of all is forgotten */
        for (int i = 0; i < 11; i++)
                fds[i] = dial("a.sock");
        got = hear(fds[10], "<EOF>");
        flatten(got);
        assert_string_equal(got, "HTTP/1.1 503|Server: Firecracker API|Connection: close|"
                                 "Content-Length: 40||{ \"error\": \"Too many open connections\" }"
                                 "<EOF>");
        for (int i = 0; i < 11; i++)
                close(fds[i]);
        assert_int_equal(vmm_end(v, SIGTERM), 0);
}

/* A client that shuts its side down before it reads is gone for the server. */
static void test_half_close(void **state)
{
        struct vmm v = vmm_start("");
        int fd = dial("a.sock");
        CC_FREE char *got = NULL;

        (void)state;
        assert_int_equal(shutdown(fd, SHUT_WR), 0);
        (void)!send(fd, "", 0, MSG_NOSIGNAL);
        got = hear(fd, "<EOF>");
        assert_string_equal(got, "<EOF>");
        close(fd);
        get("vmm.ping", 200, NULL);
        assert_int_equal(vmm_end(v, SIGTERM), 0);
}

/* One connection, many requests. */
static void test_keep_alive(void **state)
{
        struct vmm v = vmm_start("");
        int fd = dial("a.sock");

        (void)state;
        for (int i = 0; i < 5; i++) {
                ANSWER struct answer a = { 0 };

                send_request(fd, "GET", i % 2 ? "vmm.ping" : "nowhere", NULL);
                a = listen_reply(fd);
                assert_int_equal(a.status, i % 2 ? 200 : 404);
        }
        close(fd);
        assert_int_equal(vmm_end(v, SIGTERM), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                vmm_test(test_malformed),
                vmm_test(test_accepted),
                vmm_test(test_long_lines),
                vmm_test(test_large_body),
                vmm_test(test_one_connection_too_many),
                vmm_test(test_half_close),
                vmm_test(test_keep_alive),
        };

        no_knobs();
        return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Replies of a control API. What is accepted has a status, a body whose bytes came behind the head;
 * what is cut off inside its first head is not accepted; and what is refused leaves nothing.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const char *text = (const char *)data;
        CC_HTTP_REPLY struct cc_http_reply reply = { 0 };
        CC_HTTP_REPLY struct cc_http_reply head = { 0 };
        const char *end;

        if (cc_http_parse(text, size, &reply, NULL) < 0) {
                if (reply.status || reply.body.data)
                        abort();
                return 0;
        }
        end = memmem(text, size, "\r\n\r\n", 4);
        if (!end || reply.status < 200 || reply.status > 599 || reply.body.len > size - 4)
                abort();
        if (reply.body.len && !memmem(text, size, reply.body.data, reply.body.len))
                abort();
        if (cc_http_parse(text, (size_t)(end - text) + 2, &head, NULL) == 0)
                abort();
        return 0;
}

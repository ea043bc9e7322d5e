/*
 * What a guest's agent sends, as lines and as binary frames (the first byte chooses, and how the
 * stream is cut into pieces). Decoded data lies within what came; an end of file is reached; cut
 * otherwise, the same stream gives the same frames.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base64.h"
#include "agent/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Types and data of all frames, folded; how the stream ended. */
static uint64_t digest(const char *data, size_t size, size_t step, bool raw, bool skip)
{
        struct agent_reader r = { .raw = raw, .skip = skip };
        uint64_t sum = 14695981039346656037U;
        int e = 0;

        for (size_t at = 0; e >= 0 && (at < size || !r.eof); at += step) {
                size_t n = at < size ? size - at : 0;
                struct agent_frame f;

                if (n > step)
                        n = step;
                if (n)
                        memcpy(agent_reader_room(&r, n), data + at, n);
                agent_reader_got(&r, n);
                r.eof = at + n >= size;
                while ((e = agent_reader_next(&r, &f, NULL)) == 1) {
                        if (f.n > size)
                                abort();
                        sum = (sum ^ (uint64_t)f.type ^ (uint64_t)f.exit_code << 8) *
                              1099511628211U;
                        for (size_t i = 0; i < f.n; i++)
                                sum = (sum ^ (unsigned char)f.data[i]) * 1099511628211U;
                }
        }
        if (e >= 0 && r.at != r.buf.len)
                abort();
        agent_reader_clear(&r);
        return e < 0 ? sum ^ 1 : sum;
}

static void base64(const char *data, size_t size)
{
        char *out = malloc(size + 4);
        char *back = malloc(size + 8);
        size_t n = 0;

        if (!out || !back)
                abort();
        if (agent_base64_decode(data, size, out, &n) == 0) {
                if (agent_base64_len(n) != size)
                        abort();
                agent_base64_encode(out, n, back);
                if (size && memcmp(back, data, size) != 0)
                        abort();
        }
        free(out);
        free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const char *text = (const char *)data + 1;
        bool raw;
        bool skip;
        size_t step;

        if (size == 0)
                return 0;
        raw = data[0] & 128;
        skip = data[0] & 64;
        step = 1 + (data[0] & 31);
        if (digest(text, size - 1, step, raw, skip) != digest(text, size - 1, size, raw, skip))
                abort();
        base64(text, size - 1);
        return 0;
}

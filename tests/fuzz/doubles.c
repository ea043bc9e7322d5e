/* What the API doubles read from clients: HTTP in reads of any size, and Firecracker's bodies. */
#include <stdint.h>
#include <string.h>

#include "base/json.h"
#include "common/parse.h"
#include "fc/bodies.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The connection's bytes in reads of `step`; after an error the peer would be gone. */
static void http(const uint8_t *data, size_t size, size_t step)
{
        struct dbl_parser parser = { .body_max = 4096, .allow_delete = true };
        enum dbl_parse_event event = DBL_PARSE_MORE;

        while (size && event != DBL_PARSE_ERROR) {
                struct dbl_request request = { 0 };
                CC_FREE char *error = NULL;
                size_t room;
                char *into = dbl_parser_room(&parser, &room);
                size_t n = size < step ? size : step;

                if (n > room)
                        n = room;
                if (!n)
                        break;
                memcpy(into, data, n);
                data += n;
                size -= n;
                dbl_parser_feed(&parser, n);
                do {
                        event = dbl_parse(&parser, &request, &error);
                        if (event == DBL_PARSE_REQUEST) {
                                if (request.body.len > parser.body_max ||
                                    !dbl_request_path(&request))
                                        abort();
                                dbl_request_free(&request);
                        }
                } while (event == DBL_PARSE_REQUEST || event == DBL_PARSE_CONTINUE);
        }
        dbl_parser_free(&parser);
}

static void body(const uint8_t *data, size_t size, unsigned choice)
{
        static const struct fcd_schema *const schemas[] = {
                &fcd_machine_config, &fcd_boot_source, &fcd_drive,           &fcd_net,
                &fcd_balloon,        &fcd_logger,      &fcd_snapshot_create, &fcd_snapshot_load,
        };
        const struct fcd_schema *schema = schemas[choice % CC_ARRAY_LEN(schemas)];
        CC_BUF struct cc_buf error = { 0 };
        CC_JSON json_t *decoded = NULL;
        CC_JSON json_t *plain = NULL;

        if (fcd_decode(schema, 13 + choice % 4, (const char *)data, size, &decoded, &error) < 0) {
                if (!error.len || decoded)
                        abort();
                return;
        }
        if (schema != &fcd_machine_config)
                return;
        /* What that schema takes is JSON to everybody. */
        plain = json_loadb((const char *)data, size,
                           JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
        if (!plain || json_object_size(decoded) != 6)
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        if (!size)
                return 0;
        if (data[0] & 1)
                http(data + 1, size - 1, 1 + data[0] / 2U);
        else
                body(data + 1, size - 1, data[0] / 2U);
        return 0;
}

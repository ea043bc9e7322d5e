/*
 * gzip, streaming, over ISA-L: more than twice as fast as zlib, and it decides how long converting
 * a layer takes. Members follow one another (RFC 1952 §2.2); what follows the last one and is no
 * member's header is left alone, as gzip does. The wrapper around the deflate data is read here and
 * not by the library, whose reader of it differs by version.
 *
 * What does not live here: the choice of a decompressor, and the bounds against bombs.
 */
#pragma once

#include "image/pull/inflate.h"

struct gunzip;

/* Whether these first bytes of a stream begin a member: fewer than GUNZIP_HEADER never do. */
enum { GUNZIP_HEADER = 10 };
bool gunzip_recognize(const uint8_t *head, size_t n);

/* `what` names the stream in errors and must outlive it, like ctx. */
struct gunzip *gunzip_open(inflate_source_fn source, void *ctx, const char *what);

/* Fill buf; *ret is less than n only at the end, behind the last member. INVALID for damaged or
 * incomplete data, or the source's own error; nothing can be read after an error. */
int gunzip_read(struct gunzip *g, void *buf, size_t n, size_t *ret, struct cc_err *err);

void gunzip_free(struct gunzip *g); /* NULL is fine */

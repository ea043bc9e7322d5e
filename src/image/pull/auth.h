/*
 * A registry as one repository's pull sees it: requests that authenticate themselves. Challenges,
 * the token service and the token cache live here; transport is http.h, stored credentials are
 * credentials.h.
 */
#pragma once

#include <pthread.h>

#include "image/pull/credentials.h"
#include "image/pull/http.h"
#include "image/pull/reference.h"

struct registry {
        const struct reference *ref;
        pthread_mutex_t lock; /* guards everything below */
        struct credentials cred;
        char *bearer;        /* token in use, or NULL */
        char *basic;         /* user:password once a Basic challenge came, or NULL */
        unsigned generation; /* counts changes of the two */
};

/* Before anything else, also before registry_free(). */
void registry_zero(struct registry *g);

/* Looks up the credentials. `ref` must outlive the registry. */
int registry_init(struct registry *g, const struct reference *ref, struct cc_err *err);
void registry_free(struct registry *g);

/*
 * Send `rq` (its bearer and basic fields are filled in here); a 401 is answered by authenticating
 * and one replay. Without `retry` the request is tried once (for sinks, whose caller resumes).
 * A status that is not 2xx becomes an error: AUTH (401, 403), NOT_FOUND (404), NETWORK otherwise,
 * with *ret_status (may be NULL) and *ret_retry_after telling why; `what` names the object.
 */
int registry_send(struct registry *g, struct http *h, struct http_request *rq, bool retry,
                  const char *what, struct http_response *ret, long *ret_status,
                  int64_t *ret_retry_after, struct cc_err *err);

/* A parsed WWW-Authenticate header. */
struct challenge {
        bool bearer; /* else Basic */
        char *realm, *service, *scope;
};
int challenge_parse(const char *header, struct challenge *ret, struct cc_err *err);
void challenge_clear(struct challenge *c); /* also the cleanup function */

/* Refuses token services that could be used to reach into the host's own networks. */
int auth_check_realm(const struct reference *ref, const char *realm, struct cc_err *err);

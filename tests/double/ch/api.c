#include "api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/json.h"
#include "model.h"

#define ROOT "/api/v1/"

/* What a PUT takes. */
enum body { BODY_NONE, BODY_OBJECT, BODY_ANY };

struct endpoint {
        const char *name;
        const char *failed; /* the line of the error chain below "Error from API" */
        bool get;
        enum body body;
        const struct ch_object *object;
        int (*act)(struct ch_vmm *vmm, struct ch_error *e);
        int (*act_on)(struct ch_vmm *vmm, const json_t *body, struct ch_error *e);
        enum ch_device_kind add; /* unless 0, which nobody adds */
};

static int no_counters(struct ch_vmm *vmm, struct ch_error *e)
{
        (void)vmm;
        return ch_fail(e, CH_OTHER, "VM is not running");
}

static int no_nmi(struct ch_vmm *vmm, struct ch_error *e)
{
        return vmm->owned ? 0 : ch_fail(e, CH_OTHER, "VM is not running");
}

static int vmm_shutdown(struct ch_vmm *vmm, struct ch_error *e)
{
        int r = ch_vm_delete(vmm, e);

        vmm->dying = true;
        vmm->status = 0;
        return r;
}

/* clang-format off */
static const struct endpoint endpoints[] = {
        { "vm.create", "The VM could not be created", .body = BODY_OBJECT, .object = &ch_vm_config, .act_on = ch_vm_create },
        { "vm.delete", "The VM could not be deleted", .act = ch_vm_delete },
        { "vm.boot", "The VM could not boot", .act = ch_vm_boot },
        { "vm.shutdown", "The VM could not shutdown", .act = ch_vm_shutdown },
        { "vm.reboot", "The VM could not reboot", .act = ch_vm_reboot },
        { "vm.pause", "The VM could not be paused", .act = ch_vm_pause },
        { "vm.resume", "The VM could not resume", .act = ch_vm_resume },
        { "vm.power-button", "Error triggering power button", .act = ch_vm_power_button },
        { "vm.nmi", "Error triggering NMI", .act = no_nmi },
        { "vm.info", "The VM info is not available", .get = true },
        { "vm.counters", "The VM info is not available", .get = true, .act = no_counters },
        { "vm.resize", "The VM could not be resized", .body = BODY_OBJECT, .object = &ch_resize, .act_on = ch_vm_resize },
        { "vm.snapshot", "The VM could not be snapshotted", .body = BODY_OBJECT, .object = &ch_snapshot, .act_on = ch_vm_snapshot },
        { "vm.restore", "The VM could not be restored", .body = BODY_OBJECT, .object = &ch_restore, .act_on = ch_vm_restore },
        { "vm.remove-device", "The device could not be removed from the VM", .body = BODY_OBJECT, .object = &ch_remove_device, .act_on = ch_vm_remove },
        { "vm.add-disk", "The disk could not be added to the VM", .body = BODY_OBJECT, .object = &ch_disk, .add = CH_DEV_DISK },
        { "vm.add-net", "The network device could not be added to the VM", .body = BODY_OBJECT, .object = &ch_net, .add = CH_DEV_NET },
        { "vm.add-fs", "The fs could not be added to the VM", .body = BODY_OBJECT, .object = &ch_fs, .add = CH_DEV_FS },
        { "vm.add-device", "The device could not be added to the VM", .body = BODY_OBJECT, .object = &ch_device, .add = CH_DEV_VFIO },
        { "vm.add-vsock", "The vsock device could not be added to the VM", .body = BODY_OBJECT, .object = &ch_vsock, .add = CH_DEV_VSOCK },
        { "vmm.ping", "", .get = true },
        { "vmm.shutdown", "The VMM could not shutdown", .body = BODY_ANY, .act = vmm_shutdown },
};
/* clang-format on */

const char *ch_build_version(int release)
{
        static const char *const versions[] = { "v51.0", "v52.0", "v53.0", "v54.0" };

        return versions[release < 51 || release > 54 ? 2 : release - 51];
}

/* ---- answers ------------------------------------------------------------------------------ */

static void reply_words(struct dbl_reply *ret, int status, const char *first, const char *second)
{
        json_t *words = json_pack("[s]", first);

        if (second)
                json_array_append_new(words, json_string(second));
        dbl_reply_json(ret, status, words);
}

static int status_of(const struct ch_vmm *vmm, enum ch_kind kind)
{
        int release = vmm->dialect.release;

        if (kind == CH_NOT_CREATED && release >= 53)
                return 404;
        if (release < 54)
                return 500;
        return kind == CH_UNKNOWN_DEVICE ? 404
               : kind == CH_DUPLICATE    ? 409
               : kind == CH_BAD_CONFIG   ? 400
                                         : 500;
}

static void reply_error(struct ch_vmm *vmm, const struct endpoint *ep, struct ch_error *e,
                        struct dbl_reply *ret)
{
        /* When the VMM thread is gone nobody says whose request it was. */
        if (e->kind != CH_CLOSED)
                ch_wrap(e, "%s", ep->failed);
        ch_wrap(e, "Error from API");
        dbl_reply_json(ret, status_of(vmm, e->kind), ch_error_json(e));
}

/* What the deserializer says of text that is no JSON; positions are not modelled. */
static const char *syntax_error(const struct dbl_request *r, const json_error_t *err)
{
        if (json_error_code(err) == json_error_premature_end_of_input)
                return r->body.data[strspn(r->body.data, " \t\r\n")] ? "EOF while parsing an object"
                                                                     : "EOF while parsing a value";
        return json_error_code(err) == json_error_end_of_input_expected ? "trailing characters"
                                                                        : "expected ident";
}

/* ---- execution ---------------------------------------------------------------------------- */

static json_t *ping(const struct ch_vmm *vmm)
{
        const char *version = ch_build_version(vmm->dialect.release);

        return json_pack("{s:s, s:s+, s:i, s:[s, s]}", "build_version", version, "version",
                         version + 1, ".0", "pid", (int)getpid(), "features", "io_uring", "kvm");
}

static void get(struct ch_vmm *vmm, const struct endpoint *ep, struct dbl_reply *ret)
{
        CH_ERROR struct ch_error e = { 0 };
        json_t *body = NULL;
        int r = 0;

        if (ep->act)
                r = ep->act(vmm, &e);
        else if (cc_streq(ep->name, "vmm.ping"))
                body = ping(vmm);
        else
                r = ch_vm_info(vmm, &body, &e);
        if (r < 0)
                reply_error(vmm, ep, &e, ret);
        else
                dbl_reply_json(ret, 200, body);
}

static void put_object(struct ch_vmm *vmm, const struct endpoint *ep, const json_t *object,
                       struct dbl_reply *ret)
{
        CH_ERROR struct ch_error e = { 0 };
        json_t *body = NULL;
        int r;

        r = ep->act_on ? ep->act_on(vmm, object, &e) : ch_vm_add(vmm, ep->add, object, &body, &e);
        if (r < 0)
                reply_error(vmm, ep, &e, ret);
        else
                dbl_reply_json(ret, body ? 200 : 204, body);
}

static void put_body(struct ch_vmm *vmm, const struct endpoint *ep,
                     const struct dbl_request *request, struct dbl_reply *ret)
{
        CC_JSON json_t *raw = NULL, *object = NULL;
        CC_FREE char *why = NULL;
        json_error_t err;

        raw = json_loadb(request->body.data, request->body.len, JSON_DECODE_ANY, &err);
        if (!raw)
                reply_words(ret, 400, "Failed to deserialize JSON", syntax_error(request, &err));
        else if (ch_read(&vmm->dialect, ep->object, raw, &object, &why) < 0)
                reply_words(ret, 400, "Failed to deserialize JSON", why);
        else
                put_object(vmm, ep, object, ret);
}

static void put(struct ch_vmm *vmm, const struct endpoint *ep, const struct dbl_request *request,
                struct dbl_reply *ret)
{
        CH_ERROR struct ch_error e = { 0 };

        if (ep->body == BODY_OBJECT && request->has_body) {
                put_body(vmm, ep, request, ret);
        } else if (ep->body == BODY_OBJECT && cc_streq(ep->name, "vm.create")) {
                ret->status = 400; /* alone without words */
        } else if (ep->body == BODY_OBJECT || (ep->body == BODY_NONE && request->has_body)) {
                reply_words(ret, 400, "Bad Request", NULL);
        } else if (ep->act(vmm, &e) < 0) {
                reply_error(vmm, ep, &e, ret);
        } else {
                ret->status = ep->body == BODY_ANY ? 200 : 204;
        }
}

static void endpoint_name(const struct dbl_request *request, char *out, size_t n)
{
        const char *path = dbl_request_path(request);

        (void)!snprintf(out, n, "%s", cc_startswith(path, ROOT) ? path + strlen(ROOT) : path);
}

/* Endpoints with a handler of their own say "Bad Request" to every method they do not have; the
 * others do so to GET and PUT only, and have no words for the rest. */
static bool wordless(const struct endpoint *ep, const char *method)
{
        return !cc_streq(method, "GET") && !cc_streq(method, "PUT") &&
               !cc_streq(ep->name, "vm.create") && !cc_streq(ep->name, "vm.info") &&
               !cc_startswith(ep->name, "vmm.");
}

static void handle(void *ctx, const struct dbl_request *request, struct dbl_reply *ret)
{
        const struct endpoint *ep = NULL;
        char name[64];

        endpoint_name(request, name, sizeof(name));
        for (size_t i = 0; i < CC_ARRAY_LEN(endpoints); i++)
                if (cc_streq(endpoints[i].name, name))
                        ep = &endpoints[i];
        if (!ep)
                reply_words(ret, 404, "Not Found", NULL);
        else if (wordless(ep, request->method))
                ret->status = 400;
        else if (!cc_streq(request->method, ep->get ? "GET" : "PUT"))
                reply_words(ret, 400, "Bad Request", NULL);
        else if (ep->get)
                get(ctx, ep, ret);
        else
                put(ctx, ep, request, ret);
}

static void answered(void *ctx)
{
        struct ch_vmm *vmm = ctx;

        if (vmm->dying)
                dbl_loop_exit(vmm->loop, vmm->status);
}

const struct dbl_server_form ch_api_form = {
        .server = "Cloud Hypervisor API",
        .content_type = "application/json",
        .body_max = 51200,
        .endpoint = endpoint_name,
        .handle = handle,
        .answered = answered,
};

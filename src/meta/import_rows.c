/* The records of an import become rows: each is judged like one of our own, and stored word for
 * word. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/id.h"
#include "base/json.h"
#include "meta/import_internal.h"

static json_t *config_of(const struct import_row *row)
{
        return json_object_get(row->data, "config");
}

static const char *vm_name(const struct import_row *row)
{
        const char *name = json_string_value(json_object_get(config_of(row), "name"));

        return name ? name : "";
}

static int by_name(const void *a, const void *b)
{
        const struct import_row *const *x = a;
        const struct import_row *const *y = b;
        int c = strcmp(vm_name(*x), vm_name(*y));

        /* Rows of one index stand together: the first driver keeps the name. */
        return c ? c : (*x > *y) - (*x < *y);
}

static void rename_vm(struct import *im, struct import_row *row)
{
        CC_FREE char *old = xstrdup(vm_name(row));
        /* 63 characters at most, 9 of them new. Should that name be taken too, the row is refused.
         */
        CC_FREE char *name = xasprintf("%.54s-%.8s", old, row->key);

        (void)json_object_set_new(config_of(row), "name", json_string(name));
        cc_strv_addf(&im->report->renamed, "%s: %s -> %s", row->key, old, name);
}

int import_settle_names(struct import *im, struct cc_err *err)
{
        CC_FREE struct import_row **vms = xcalloc(im->n + 1, sizeof(struct import_row *));
        size_t n = 0;
        const struct import_row *first = NULL;
        int r = 0;

        for (size_t i = 0; i < im->n; i++)
                if (im->v[i].kind == IMPORT_VM && *vm_name(&im->v[i]))
                        vms[n++] = &im->v[i];
        if (n)
                qsort(vms, n, sizeof(struct import_row *), by_name);
        for (size_t i = 0; i < n && r == 0; i++) {
                if (!first || strcmp(vm_name(first), vm_name(vms[i])) != 0) {
                        first = vms[i];
                        continue;
                }
                if (im->args->rename_conflicts) {
                        rename_vm(im, vms[i]);
                        continue;
                }
                r = cc_fail(err, CC_CONFLICT, "vm name \"%s\" belongs to both %s and %s",
                            vm_name(first), first->key, vms[i]->key);
                cc_hint(err, "--rename-conflicts gives the second one another name");
        }
        return r;
}

/* The member that names the row must be the row's key; an absent one is filled in. */
static int check_key(const struct import_row *row, const char *member, struct cc_err *err)
{
        const char *text = json_string_value(json_object_get(row->data, member));

        if (!cc_isempty(text) && strcmp(text, row->key) != 0)
                return cc_fail(err, CC_INVALID, "record %s says it is %s", row->key, text);
        (void)json_object_set_new(row->data, member, json_string(row->key));
        return 0;
}

static int write_vm(struct import *im, struct meta *m, struct import_row *row, struct cc_err *err)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        CC_FREE char *text = NULL;
        const char *driver = json_string_value(json_object_get(row->data, "hypervisor"));
        int r = check_key(row, "id", err);

        if (r == 0 && !cc_isempty(driver) && strcmp(driver, row->driver) != 0)
                r = cc_fail(err, CC_INVALID, "record %s of %s says %s", row->key, row->driver,
                            driver);
        if (r < 0)
                return r;
        (void)json_object_set_new(row->data, "hypervisor", json_string(row->driver));
        text = cc_json_compact(row->data);
        r = vm_record_parse(text, strlen(text), &vm, err);
        if (r == 0 && cc_isempty(vm.state))
                r = cc_fail(err, CC_INVALID, "vm record without a state");
        if (r == 0)
                r = meta_vm_insert_as(m, &vm, text, err);
        im->report->vms++;
        return r;
}

static int write_snapshot(struct import *im, struct meta *m, struct import_row *row,
                          struct cc_err *err)
{
        SNAPSHOT_RECORD struct snapshot_record s = SNAPSHOT_RECORD_INIT;
        CC_FREE char *text = NULL;
        int r = check_key(row, "id", err);

        if (r < 0)
                return r;
        text = cc_json_compact(row->data);
        r = snapshot_record_parse(text, strlen(text), &s, err);
        if (r == 0)
                r = meta_snapshot_insert_as(m, &s, text, err);
        im->report->snapshots++;
        return r;
}

static int write_network(struct import *im, struct meta *m, struct import_row *row,
                         struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *s = NULL;
        CC_FREE char *text = NULL;
        const char *vm_id = "";
        const char *if_name = "";
        int r = check_key(row, "id", err);

        if (r == 0)
                r = cc_json_str(row->data, "vm_id", &vm_id, err);
        if (r == 0)
                r = cc_json_str(row->data, "if_name", &if_name, err);
        if (r == 0 && (!*vm_id || !*if_name))
                r = cc_fail(err, CC_INVALID, "network record without VM or interface");
        if (r == 0)
                r = meta_prepare(m,
                                 "INSERT INTO networks(id, vm_id, if_name, data) "
                                 "VALUES(?1, ?2, ?3, ?4)",
                                 &s, err);
        if (r < 0)
                return r;
        text = cc_json_compact(row->data);
        meta_bind(s, 1, row->key);
        meta_bind(s, 2, vm_id);
        meta_bind(s, 3, if_name);
        meta_bind(s, 4, text);
        im->report->networks++;
        return meta_run(m, s, err);
}

/* "sha256:<hex>" becomes a file name: nothing else may. */
static int add_pin(struct cc_strv *set, const char *digest, struct cc_err *err)
{
        static const char prefix[] = "sha256:";

        if (!digest || !cc_startswith(digest, prefix) || !cc_is_hex(digest + strlen(prefix), 64))
                return cc_fail(err, CC_INVALID, "invalid digest \"%s\"", digest ? digest : "");
        if (!cc_strv_has(set, digest + strlen(prefix)))
                cc_strv_add(set, digest + strlen(prefix));
        return 0;
}

static int pins_of(const struct image_record *image, bool oci, struct cc_strv *ret,
                   struct cc_err *err)
{
        int r = 0;

        if (!oci)
                return add_pin(ret, image->content_sum, err);
        for (size_t i = 0; i < image->layers.len && r == 0; i++)
                r = add_pin(ret, image_layer_at(image, i)->digest, err);
        if (r == 0 && !cc_isempty(image->kernel_layer))
                r = add_pin(ret, image->kernel_layer, err);
        if (r == 0 && !cc_isempty(image->initrd_layer))
                r = add_pin(ret, image->initrd_layer, err);
        return r;
}

static int write_image(struct import *im, struct meta *m, struct import_row *row,
                       struct cc_err *err)
{
        bool oci = row->kind == IMPORT_OCI;
        IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;
        CC_STRV struct cc_strv pins = { 0 };
        int r = check_key(row, "ref", err);

        if (r == 0)
                r = record_load(oci ? &image_oci_type : &image_cloudimg_type, row->data, &image,
                                err);
        if (r == 0)
                r = pins_of(&image, oci, &pins, err);
        if (r == 0)
                r = meta_image_put(m, oci ? IMAGE_OCI : IMAGE_CLOUDIMG, &image, &pins, err);
        im->report->images++;
        return r;
}

static int write_row(struct import *im, struct meta *m, struct import_row *row, struct cc_err *err)
{
        static int (*const writers[])(struct import *, struct meta *, struct import_row *,
                                      struct cc_err *) = {
                [IMPORT_VM] = write_vm,           [IMPORT_SNAPSHOT] = write_snapshot,
                [IMPORT_NETWORK] = write_network, [IMPORT_OCI] = write_image,
                [IMPORT_CLOUDIMG] = write_image,
        };
        int r = writers[row->kind](im, m, row, err);

        return r < 0 && err ? cc_wrap(err, "import %s", row->key) : r;
}

static int mark(struct meta *m, const char *id, struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *s = NULL;
        int r = meta_prepare(m,
                             "INSERT INTO meta_kv(k, v) VALUES('state', 'imported'), "
                             "('imported_from', ?1) ON CONFLICT(k) DO UPDATE SET v = excluded.v",
                             &s, err);

        if (r < 0)
                return r;
        meta_bind(s, 1, id);
        return meta_run(m, s, err);
}

int import_write(struct import *im, struct meta *m, const char *id, struct cc_err *err)
{
        int r = 0;

        im->report->vms = im->report->snapshots = im->report->networks = im->report->images = 0;
        for (size_t i = 0; i < im->n && r == 0; i++)
                r = write_row(im, m, &im->v[i], err);
        return r < 0 ? r : mark(m, id, err);
}

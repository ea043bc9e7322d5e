/*
 * The doctor (state.md §11): does this host have what cocoon needs, is what cocoon keeps here
 * sound, and can it be put right. A check is one row of the table in doctor.c: a probe, which
 * changes nothing, and where there is a cure a fix. Printing is the caller's.
 */
#pragma once

#include "config/config.h"

enum doctor_verdict {
        DOCTOR_PASS,
        DOCTOR_WARN, /* something will not work, or not as well */
        DOCTOR_FAIL, /* VMs cannot run, or data is in danger */
        DOCTOR_VERDICTS
};

/* "pass", "warn", "fail". */
const char *doctor_verdict_name(enum doctor_verdict v);

/* What one check found, in one line. */
struct doctor_line {
        const char *check; /* static: "kvm" */
        enum doctor_verdict verdict;
        bool fixed; /* it was not so before --fix */
        char *text;
        char *hint; /* what the user can do; NULL nothing */
};

struct doctor_report {
        struct doctor_line *v;
        size_t n;
        size_t count[DOCTOR_VERDICTS];
};
void doctor_report_clear(struct doctor_report *r); /* also the cleanup function */
#define DOCTOR_REPORT CC_CLEANUP(doctor_report_clear)

/* How files come from elsewhere: the image module's operations (image/module.h). */
struct doctor_fetch {
        int (*download)(const char *url, const char *sha256, int64_t max, const char *dest,
                        struct cc_err *err);
        int (*unpack)(const char *archive, const char *name, int64_t max, const char *dest,
                      struct cc_err *err);
        int (*digest)(const char *path, char ret[65], struct cc_err *err);
};

struct doctor_options {
        bool fix;           /* cure what can be cured; running it again changes nothing more */
        const char *subnet; /* of the network list that fix writes; "" 10.88.0.0/16 */
        /* Install programs first, from the address `mirror`, each with its SHA-256 in the file
         * `pins`, into `bin_dir`. `fetch` NULL: not. */
        const struct doctor_fetch *fetch;
        const char *mirror, *pins, *bin_dir;
};

/*
 * Run every check. Without `fix` nothing on the host is changed and no store is made. A fix that
 * fails is a line of its own and does not keep the others from running. Errors: INVALID for a
 * subnet that is none, CANCELED.
 */
int doctor_run(const struct config *config, const struct doctor_options *options,
               struct doctor_report *ret, struct cc_err *err);

/* The same for one VM: its record, process, control socket, console, disks, namespace and NICs
 * against each other. Changes nothing, takes no lock, also while the VM is worked on. NOT_FOUND and
 * AMBIGUOUS as every verb. */
int doctor_vm(const struct config *config, const char *ref, struct doctor_report *ret,
              struct cc_err *err);

/* Can files in this directory share blocks (FICLONE): 1 yes, 0 no, -1 cannot be told (it does not
 * exist, or may not be written). Leaves no trace. */
int doctor_reflink(const char *dir);

/* "10.88.0.0/16" → the subnet and its first address as text. CC_INVALID for what is no IPv4 subnet
 * of 8 to 29 bits, or has bits behind its prefix. */
int doctor_subnet_parse(const char *s, char ret_subnet[24], char ret_gateway[16],
                        struct cc_err *err);

/* The operations of the QEMU driver, one group a file; qemu.c binds them into the driver struct. */
#pragma once

#include "hv/driver.h"

/* File names in the run dir. */
#define QEMU_API_SOCK          "api.sock"
#define QEMU_EVENTS_SOCK       "events.sock"
#define QEMU_SERIAL_SOCK       "serial.sock"
#define QEMU_AGENT_SOCK_FORMAT "agent.%d.sock"
#define QEMU_EFIVARS           "efivars.fd"
#define QEMU_PID               "qemu.pid"
#define QEMU_LOG               "qemu.log"

/* start.c: from a spec to a running process. */
int qemu_prepare(const struct hv_env *env, const struct vm_spec *spec, struct cc_err *err);
int qemu_launch(const struct hv_env *env, const struct vm_spec *spec, struct vm_proc *ret,
                struct cc_err *err);
int qemu_debug(const struct hv_env *env, const struct vm_spec *spec, struct cc_strv *ret_argv,
               struct cc_strv *ret_copies, struct cc_err *err);
extern const char *const qemu_runtime_files[];

/* Kernel, initrd and disks can be read; the error names the file. */
int qemu_check_files(const struct vm_spec *spec, struct cc_err *err);

/* save.c: from a running process to files. */
#define QEMU_MEMORY "memory.bin"
#define QEMU_STATE  "state.bin"
enum hv_file qemu_classify(const char *name);
int qemu_can_capture(const struct hv_env *env, const char *run_dir, struct cc_err *err);
int qemu_pause(const struct hv_env *env, const char *run_dir, struct cc_err *err);
int qemu_capture(const struct hv_env *env, const char *run_dir, const struct vm_proc *proc,
                 const char *dir, struct cc_strv *ret_disks, struct cc_err *err);

/* load.c: from files to a paused process. */
int qemu_preflight(const struct hv_env *env, const struct hv_snapshot *snap, const json_t *sidecar,
                   struct cc_strv *ret_macs, struct cc_err *err);
int qemu_load(const struct hv_env *env, const struct vm_spec *spec, const struct hv_load *how,
              struct vm_proc *ret, struct cc_err *err);

/* swap.c: a clone's own NICs. */
int qemu_rewire(const struct hv_env *env, const struct vm_spec *spec, const struct hv_load *how,
                const struct vm_proc *proc, struct cc_err *err);
int qemu_settle(const struct hv_env *env, const struct vm_spec *spec, const struct hv_load *how,
                const struct vm_proc *proc, struct cc_err *err);

/* hotplug.c: NICs of a running machine. */
int qemu_nic_add(const struct hv_env *env, const struct vm_spec *spec, size_t index,
                 struct cc_err *err);
int qemu_nic_remove(const struct hv_env *env, const char *run_dir, size_t index, const char *mac,
                    struct cc_err *err);
int qemu_nic_list(const struct hv_env *env, const char *run_dir, struct cc_strv *ret,
                  struct cc_err *err);

/* attach.c: shared folders, passed-through devices and external disks. */
int qemu_attach(const struct hv_env *env, const char *run_dir, const struct hv_attachment *what,
                char **ret_id, struct cc_err *err);
int qemu_detach(const struct hv_env *env, const char *run_dir, enum hv_attach_kind kind,
                const char *key, struct cc_err *err);
int qemu_attachments(const struct hv_env *env, const char *run_dir, struct hv_attachments *ret,
                     struct cc_err *err);

/* stop.c: from a running process to none. */
int qemu_stop(const struct hv_env *env, const char *run_dir, struct vm_proc *proc, int grace_ms,
              struct cc_err *err);

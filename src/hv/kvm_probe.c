/*
 * Does /dev/kvm run guest code at hardware speed? Some hosts offer a KVM that interprets every
 * guest instruction; QEMU aborts there and everything else crawls. So a counting loop of a million
 * turns is timed in a 64-bit vCPU (qemu.md §10): hardware needs well under 1 ms, KVM in an emulated
 * host 2-16 ms, an interpreting KVM over 1,000 ms.
 *
 * Actors: a forked child makes the VM and runs it, so that the interval timer, its handler and
 * whatever the kernel does to a process with a half-made VM stay out of ours; between fork and
 * _exit it makes only async-signal-safe calls. The parent reads one struct from a pipe and bounds
 * the wait. Verdicts that hold until the next boot are cached under the boot id; permissions are
 * asked again every time.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/timeutil.h"
#include "hv/driver.h"

#define CACHE_NAME  "kvm-probe"
#define VERDICT_OK  "ok"
#define VERDICT_EMU "KVM emulates guest code"

#if defined(__x86_64__)

#define SLOT_SIZE  0x10000
#define PML4       0x1000
#define PDPT       0x2000
#define PD         0x3000
#define CODE       0x8000
#define TSS_ADDR   0xfffbd000UL /* three pages below 4 GiB that no slot uses */
#define MAX_CPUID  256
#define PASS_NS    (100 * CC_NSEC_PER_MSEC)
#define STOP_USEC  200000 /* interrupts an interpreting KVM long before its loop ends */
#define CHILD_MS   3000   /* an unkillable KVM_RUN must not hang the caller */
#define LOOP_COUNT 1000000

enum step {
        STEP_OPEN,
        STEP_CREATE_VM,
        STEP_MEMORY,
        STEP_TSS,
        STEP_VCPU,
        STEP_CPUID,
        STEP_SREGS,
        STEP_REGS,
        STEP_TIMER,
        STEP_RUN,
        STEP_EXIT,
        STEP_DONE,
};

static const char *const step_text[] = {
        [STEP_OPEN] = "open /dev/kvm",
        [STEP_CREATE_VM] = "KVM_CREATE_VM",
        [STEP_MEMORY] = "KVM_SET_USER_MEMORY_REGION",
        [STEP_TSS] = "KVM_SET_TSS_ADDR",
        [STEP_VCPU] = "KVM_CREATE_VCPU",
        [STEP_CPUID] = "KVM_SET_CPUID2",
        [STEP_SREGS] = "KVM_SET_SREGS",
        [STEP_REGS] = "KVM_SET_REGS",
        [STEP_TIMER] = "setitimer",
        [STEP_RUN] = "KVM_RUN",
        [STEP_EXIT] = "KVM_RUN exit reason",
};

struct report {
        int step;   /* STEP_DONE, or the step that failed */
        int sys;    /* its errno; for STEP_EXIT the exit reason */
        int64_t ns; /* duration of KVM_RUN */
};

static volatile sig_atomic_t timer_fired;
static struct kvm_run *volatile timer_run;

static void on_timer(int sig)
{
        (void)sig;
        timer_fired = 1;
        if (timer_run)
                timer_run->immediate_exit = 1;
}

static void fill_memory(uint8_t *mem)
{
        /* mov $1000000,%ecx; 1: dec %ecx; jnz 1b; hlt */
        static const uint8_t code[] = { 0xb9,
                                        LOOP_COUNT & 0xff,
                                        LOOP_COUNT >> 8 & 0xff,
                                        LOOP_COUNT >> 16 & 0xff,
                                        LOOP_COUNT >> 24,
                                        0xff,
                                        0xc9,
                                        0x75,
                                        0xfc,
                                        0xf4 };
        const uint64_t present_write = 3;
        const uint64_t large = 1 << 7;
        uint64_t entry;

        memcpy(mem + CODE, code, sizeof(code));
        entry = PDPT | present_write;
        memcpy(mem + PML4, &entry, sizeof(entry));
        entry = PD | present_write;
        memcpy(mem + PDPT, &entry, sizeof(entry));
        entry = present_write | large; /* the first 2 MiB map to themselves */
        memcpy(mem + PD, &entry, sizeof(entry));
}

static int set_cpuid(int kvm, int vcpu)
{
        static union {
                struct kvm_cpuid2 list;
                char room[sizeof(struct kvm_cpuid2) + MAX_CPUID * sizeof(struct kvm_cpuid_entry2)];
        } cpuid;

        cpuid.list.nent = MAX_CPUID;
        if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid) < 0)
                return -1;
        return ioctl(vcpu, KVM_SET_CPUID2, &cpuid);
}

static int set_sregs(int vcpu)
{
        struct kvm_sregs s;
        const struct kvm_segment code = {
                .limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1
        };
        const struct kvm_segment data = { .limit = 0xffffffff,
                                          .selector = 16,
                                          .type = 3,
                                          .present = 1,
                                          .db = 1,
                                          .s = 1,
                                          .g = 1 };

        if (ioctl(vcpu, KVM_GET_SREGS, &s) < 0)
                return -1;
        s.cs = code;
        s.ds = s.es = s.fs = s.gs = s.ss = data;
        s.cr3 = PML4;
        s.cr4 = 0x20;       /* PAE */
        s.cr0 = 0x80000011; /* PG, ET, PE */
        s.efer = 0x500;     /* LMA, LME */
        return ioctl(vcpu, KVM_SET_SREGS, &s);
}

/* The step that failed with errno set, or STEP_DONE. */
static enum step run_guest(int kvm, struct report *r)
{
        struct kvm_userspace_memory_region slot = { .memory_size = SLOT_SIZE };
        struct kvm_regs regs = { .rip = CODE, .rflags = 2 };
        struct itimerval timer = { .it_value.tv_usec = STOP_USEC };
        struct sigaction sa = { .sa_handler = on_timer };
        struct kvm_run *run;
        uint8_t *mem;
        int64_t start;
        int vm;
        int vcpu;
        int size;

        vm = ioctl(kvm, KVM_CREATE_VM, 0);
        if (vm < 0)
                return STEP_CREATE_VM;
        mem = mmap(NULL, SLOT_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (mem == MAP_FAILED)
                return STEP_MEMORY;
        fill_memory(mem);
        slot.userspace_addr = (uint64_t)(uintptr_t)mem;
        if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
                return STEP_MEMORY;
        if (ioctl(vm, KVM_SET_TSS_ADDR, TSS_ADDR) < 0)
                return STEP_TSS;
        vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
        size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
        if (vcpu < 0 || size < (int)sizeof(*run))
                return STEP_VCPU;
        run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
        if (run == MAP_FAILED)
                return STEP_VCPU;
        /* Without the CPUID list, kernels since 6.12 refuse long mode in the special registers. */
        if (set_cpuid(kvm, vcpu) < 0)
                return STEP_CPUID;
        if (set_sregs(vcpu) < 0)
                return STEP_SREGS;
        if (ioctl(vcpu, KVM_SET_REGS, &regs) < 0)
                return STEP_REGS;
        timer_run = run;
        if (sigaction(SIGALRM, &sa, NULL) < 0 || setitimer(ITIMER_REAL, &timer, NULL) < 0)
                return STEP_TIMER;
        start = cc_monotonic();
        if (ioctl(vcpu, KVM_RUN, 0) < 0 && errno != EINTR)
                return STEP_RUN;
        r->ns = cc_monotonic() - start;
        if (timer_fired)
                return STEP_DONE; /* r->ns says it all */
        if (run->exit_reason != KVM_EXIT_HLT) {
                errno = (int)run->exit_reason;
                return STEP_EXIT;
        }
        return STEP_DONE;
}

static void child_main(int kvm, int out) __attribute__((noreturn));
static void child_main(int kvm, int out)
{
        struct report r = { 0 };
        ssize_t n;

        r.step = run_guest(kvm, &r);
        r.sys = errno;
        n = write(out, &r, sizeof(r));
        (void)n;
        _exit(0);
}

/* Fills the verdict: VERDICT_OK, VERDICT_EMU or the failed step. */
static int probe(int kvm, struct cc_buf *verdict, struct cc_err *err)
{
        struct report r = { 0 };
        struct pollfd wait;
        int fds[2];
        ssize_t n = 0;
        pid_t pid;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return cc_fail_errno(err, errno, "create pipe");
        pid = fork();
        if (pid == 0)
                child_main(kvm, fds[1]);
        close(fds[1]);
        if (pid < 0) {
                close(fds[0]);
                return cc_fail_errno(err, errno, "fork");
        }
        wait = (struct pollfd){ .fd = fds[0], .events = POLLIN };
        while (poll(&wait, 1, CHILD_MS) < 0 && errno == EINTR)
                ;
        if (wait.revents)
                n = read(fds[0], &r, sizeof(r));
        close(fds[0]);
        (void)kill(pid, SIGKILL);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
        if (n != (ssize_t)sizeof(r) || r.step < STEP_OPEN || r.step > STEP_DONE)
                cc_buf_str(verdict, "KVM probe failed: the probe was killed");
        else if (r.step == STEP_EXIT)
                cc_buf_printf(verdict, "KVM probe failed: %s: %d", step_text[r.step], r.sys);
        else if (r.step != STEP_DONE)
                cc_buf_printf(verdict, "KVM probe failed: %s: %s", step_text[r.step],
                              strerror(r.sys));
        else
                cc_buf_str(verdict, r.ns < PASS_NS ? VERDICT_OK : VERDICT_EMU);
        cc_debug("kvm", "probe: %s after %lld us", verdict->data, (long long)(r.ns / 1000));
        return 0;
}

/* One line "<boot id> <verdict>". Anything else is as good as no cache. */
static bool cache_read(const char *path, const char *boot, struct cc_buf *verdict)
{
        CC_FREE char *text = NULL;

        if (!*boot || cc_read_file(path, 256, &text, NULL, NULL) < 0)
                return false;
        text[strcspn(text, "\n")] = '\0';
        if (!cc_startswith(text, boot) || text[strlen(boot)] != ' ')
                return false;
        cc_buf_str(verdict, text + strlen(boot) + 1);
        return cc_streq(verdict->data, VERDICT_OK) || cc_streq(verdict->data, VERDICT_EMU);
}

int hv_kvm_probe(const char *cache_dir, struct cc_err *err)
{
        CC_BUF struct cc_buf verdict = { 0 };
        CC_FREE char *path = cc_isempty(cache_dir) ? NULL : cc_path_join(cache_dir, CACHE_NAME);
        CC_CLOSE int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
        char boot[37];
        int r;

        if (kvm < 0) {
                if (errno == ENOENT)
                        return cc_fail(err, CC_UNAVAILABLE, "/dev/kvm missing");
                if (errno == EACCES || errno == EPERM)
                        return cc_fail(err, CC_UNAVAILABLE, "/dev/kvm: permission denied");
                return cc_fail(err, CC_UNAVAILABLE, "KVM probe failed: %s: %s",
                               step_text[STEP_OPEN], strerror(errno));
        }
        cc_boot_id(boot);
        if (!path || !cache_read(path, boot, &verdict)) {
                cc_buf_free(&verdict);
                r = probe(kvm, &verdict, err);
                if (r < 0)
                        return r;
                /* A failed step may be a passing shortage; only the two real verdicts last. */
                if (path && *boot &&
                    (cc_streq(verdict.data, VERDICT_OK) || cc_streq(verdict.data, VERDICT_EMU))) {
                        CC_FREE char *line = xasprintf("%s %s\n", boot, verdict.data);

                        (void)cc_publish(path, line, strlen(line), 0644, NULL);
                }
        }
        if (cc_streq(verdict.data, VERDICT_OK))
                return 0;
        return cc_fail(err, CC_UNAVAILABLE, "%s", verdict.data);
}

#else

int hv_kvm_probe(const char *cache_dir, struct cc_err *err)
{
        (void)cache_dir;
        return cc_fail(err, CC_UNAVAILABLE, "KVM is only used on x86-64");
}

#endif

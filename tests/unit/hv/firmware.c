/* The firmware search in trees made for the purpose. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "hv/qemu/firmware.h"

#define MACHINE "pc-q35-7.2"
#define FLASH(code, vars)                                                                          \
        "\"mapping\":{\"device\":\"flash\",\"executable\":{\"filename\":\"" code                   \
        "\",\"format\":\"raw\"},\"nvram-template\":{\"filename\":\"" vars                          \
        "\",\"format\":\"raw\"}}"
#define TARGET                                                                                     \
        "\"targets\":[{\"architecture\":\"aarch64\",\"machines\":[\"virt-*\"]},"                   \
        "{\"architecture\":\"x86_64\",\"machines\":[\"pc-i440fx-*\",\"pc-q35-*\"]}]"
#define UEFI "\"interface-types\":[\"uefi\"]"

static char *root;

static int setup(void **state)
{
        char template[] = "/tmp/cocoon-test-XXXXXX";

        (void)state;
        root = xstrdup(mkdtemp(template));
        return 0;
}

static int teardown(void **state)
{
        int r = cc_rm_rf(root, NULL);

        (void)state;
        free(root);
        return r;
}

static void write_file(const char *path, const char *text)
{
        CC_FREE char *full = xasprintf("%s%s", root, path);
        CC_FREE char *dir = xstrdup(full);

        *strrchr(dir, '/') = '\0';
        assert_int_equal(cc_mkdir_p(dir, 0755, NULL), 0);
        assert_int_equal(cc_publish(full, text, strlen(text), 0644, NULL), 0);
}

static void expect_uefi(const char *code, const char *vars)
{
        QEMU_FIRMWARE struct qemu_firmware f = { 0 };
        struct cc_err err = CC_ERR_INIT;

        if (qemu_uefi_find("", MACHINE, root, &f, &err) < 0)
                fail_msg("%s", err.msg);
        assert_string_equal(f.code + strlen(root), code);
        assert_string_equal(f.vars + strlen(root), vars);
        assert_true(f.code_size > 0 && f.vars_size > 0);
}

static void test_descriptors(void **state)
{
        (void)state;
        write_file("/fw/a", "code");
        write_file("/fw/b", "vars");
        write_file("/fw/c", "other code");
        write_file("/fw/d", "other vars");
        /* Unfit or broken ones come first by name. */
        write_file("/usr/share/qemu/firmware/01.json", "{ not json");
        write_file("/usr/share/qemu/firmware/02.json", "[]");
        write_file("/usr/share/qemu/firmware/03.json",
                   "{" UEFI "," FLASH("/fw/c", "/fw/d") "," TARGET
                                                        ",\"features\":[\"requires-smm\"]}");
        write_file("/usr/share/qemu/firmware/04.json",
                   "{\"interface-types\":[\"bios\"]," FLASH("/fw/c", "/fw/d") "," TARGET "}");
        write_file("/usr/share/qemu/firmware/05.json",
                   "{" UEFI "," FLASH("/fw/gone", "/fw/d") "," TARGET "}");
        write_file("/usr/share/qemu/firmware/06.json",
                   "{" UEFI "," FLASH("/fw/c", "/fw/d") ",\"targets\":[{\"architecture\":\"x86_"
                                                        "64\",\"machines\":[\"pc-i440fx-*\"]}]}");
        write_file("/usr/share/qemu/firmware/07.json",
                   "{" UEFI ",\"mapping\":{\"device\":\"memory\",\"filename\":\"/fw/c\"}," TARGET
                   "}");
        write_file(
                "/usr/share/qemu/firmware/08.json",
                "{\"interface-types\":7,\"mapping\":[],\"targets\":{\"x\":1},\"features\":\"\"}");
        write_file("/usr/share/qemu/firmware/60.json",
                   "{" UEFI "," FLASH("/fw/a", "/fw/b") "," TARGET ",\"features\":[\"acpi-s3\"]}");
        write_file("/usr/share/qemu/firmware/61.json",
                   "{" UEFI "," FLASH("/fw/c", "/fw/d") "," TARGET "}");
        expect_uefi("/fw/a", "/fw/b");
        /* The administrator's file of the same name hides the distribution's. */
        write_file("/etc/qemu/firmware/60.json", "{}");
        expect_uefi("/fw/c", "/fw/d");
        write_file("/etc/qemu/firmware/10.json",
                   "{" UEFI "," FLASH("/fw/a", "/fw/b") "," TARGET "}");
        expect_uefi("/fw/a", "/fw/b");
}

static void test_well_known(void **state)
{
        QEMU_FIRMWARE struct qemu_firmware f = { 0 };
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        assert_int_equal(qemu_uefi_find("", MACHINE, root, &f, &err), -CC_UNAVAILABLE);
        assert_string_equal(err.msg,
                            "qemu: no UEFI firmware found (install ovmf or set qemu_firmware)");
        write_file("/usr/share/edk2/ovmf/OVMF_CODE.fd", "code");
        assert_int_equal(qemu_uefi_find("", MACHINE, root, &f, &err), -CC_UNAVAILABLE);
        write_file("/usr/share/edk2/ovmf/OVMF_VARS.fd", "vars");
        expect_uefi("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd");
        write_file("/usr/share/OVMF/OVMF_CODE_4M.fd", "code");
        write_file("/usr/share/OVMF/OVMF_VARS_4M.fd", "vars");
        expect_uefi("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd");
}

static void test_configured(void **state)
{
        QEMU_FIRMWARE struct qemu_firmware f = { 0 };
        CC_FREE char *code = cc_path_join(root, "code.fd");
        CC_FREE char *both = xasprintf("%s/code.fd:%s/vars.fd", root, root);
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        assert_int_equal(qemu_uefi_find(code, MACHINE, "", &f, &err), -CC_UNAVAILABLE);
        write_file("/code.fd", "code");
        assert_int_equal(qemu_uefi_find(both, MACHINE, "", &f, &err), -CC_UNAVAILABLE);
        assert_non_null(strstr(err.msg, "vars.fd"));
        write_file("/vars.fd", "vars!");
        assert_int_equal(qemu_uefi_find(both, MACHINE, "", &f, &err), 0);
        assert_int_equal(f.code_size, 4);
        assert_int_equal(f.vars_size, 5);
        qemu_firmware_clear(&f);
        assert_int_equal(qemu_uefi_find(code, MACHINE, "", &f, &err), 0);
        assert_null(f.vars);
}

static void test_bios(void **state)
{
        QEMU_FIRMWARE struct qemu_firmware f = { 0 };
        CC_STRV struct cc_strv dirs = { 0 };
        CC_FREE char *own = cc_path_join(root, "own.bin");
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        cc_strv_add(&dirs, "/opt/qemu/share");
        cc_strv_add(&dirs, "/opt/qemu/seabios");
        assert_int_equal(qemu_bios_find("", &dirs, root, &f, &err), -CC_UNAVAILABLE);
        assert_non_null(strstr(err.hint, "qemu_bios"));
        write_file("/usr/share/qemu/bios-256k.bin", "1");
        assert_int_equal(qemu_bios_find("", &dirs, root, &f, &err), 0);
        assert_true(cc_endswith(f.code, "/usr/share/qemu/bios-256k.bin"));
        qemu_firmware_clear(&f);
        write_file("/opt/qemu/seabios/bios-256k.bin", "22");
        assert_int_equal(qemu_bios_find(NULL, &dirs, root, &f, &err), 0);
        assert_int_equal(f.code_size, 2);
        qemu_firmware_clear(&f);
        assert_int_equal(qemu_bios_find(own, &dirs, root, &f, &err), -CC_UNAVAILABLE);
        write_file("/own.bin", "333");
        assert_int_equal(qemu_bios_find(own, &dirs, root, &f, &err), 0);
        assert_int_equal(f.code_size, 3);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_descriptors, setup, teardown),
                cmocka_unit_test_setup_teardown(test_well_known, setup, teardown),
                cmocka_unit_test_setup_teardown(test_configured, setup, teardown),
                cmocka_unit_test_setup_teardown(test_bios, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The page of limitations. See limits.h. */
#include "cli/limits.h"

#include "hv/driver.h"

static void header(struct cc_buf *b, const char *first, const char *second)
{
        size_t columns = 1 + (second != NULL);

        cc_buf_printf(b, "| %s |", first);
        if (second)
                cc_buf_printf(b, " %s |", second);
        for (size_t i = 0; hv_driver_at(i); i++, columns++)
                cc_buf_printf(b, " %s |", hv_driver_at(i)->title);
        cc_buf_str(b, "\n|");
        while (columns-- > 0)
                cc_buf_str(b, "---|");
        cc_buf_char(b, '\n');
}

static void cap_rows(struct cc_buf *b, enum hv_cap_kind kind)
{
        const struct hv_cap_row *row;

        for (size_t i = 0; (row = hv_cap_row_at(i)); i++) {
                if (row->kind != kind)
                        continue;
                cc_buf_printf(b, "| %s | %s |", row->what, row->how);
                for (size_t k = 0; hv_driver_at(k); k++)
                        cc_buf_printf(b, " %s |", hv_driver_at(k)->caps & row->cap ? "yes" : "no");
                cc_buf_char(b, '\n');
        }
}

static void number_row(struct cc_buf *b, const char *what, size_t offset)
{
        cc_buf_printf(b, "| %s |", what);
        for (size_t i = 0; hv_driver_at(i); i++) {
                size_t n = *(const size_t *)((const char *)hv_driver_at(i) + offset);

                if (n)
                        cc_buf_printf(b, " %zu |", n);
                else
                        cc_buf_str(b, " no limit |");
        }
        cc_buf_char(b, '\n');
}

static void driver_table(struct cc_buf *b)
{
        header(b, "Driver", NULL);
        cc_buf_str(b, "| name in `hypervisor` and records |");
        for (size_t i = 0; hv_driver_at(i); i++)
                cc_buf_printf(b, " `%s` |", hv_driver_at(i)->name);
        cc_buf_str(b, "\n| directory below run and log |");
        for (size_t i = 0; hv_driver_at(i); i++)
                cc_buf_printf(b, " `%s` |", hv_driver_at(i)->dir);
        cc_buf_char(b, '\n');
        number_row(b, "disks at most", offsetof(struct hv_driver, max_disks));
        number_row(b, "NICs at most", offsetof(struct hv_driver, max_nics));
        number_row(b, "disks and NICs together", offsetof(struct hv_driver, max_devices));
        cc_buf_str(b, "| full function from version |");
        for (size_t i = 0; hv_driver_at(i); i++) {
                const struct hv_driver *drv = hv_driver_at(i);

                if (drv->full_version)
                        cc_buf_printf(b, " %s (older: no %s) |", drv->full_version,
                                      drv->older_lacks);
                else
                        cc_buf_str(b, " any it runs with |");
        }
        cc_buf_char(b, '\n');
}

void limits_markdown(struct cc_buf *ret)
{
        cc_buf_str(ret,
                   "# Limitations of the drivers\n\n"
                   "Made by `cocoon __docs limitations` from the drivers' own rows; "
                   "`tests/e2e/limitations.bats` holds the commands to it. What else does not work "
                   "is in [KNOWN_ISSUES.md](../KNOWN_ISSUES.md).\n\n"
                   "## Drivers\n\n");
        driver_table(ret);
        cc_buf_str(ret, "\n## Refused\n\n"
                        "Where a driver says no, what asks for it fails before anything is made, "
                        "with the code `unsupported`.\n\n");
        header(ret, "What", "Asked for by");
        cap_rows(ret, HV_CAP_ASKED);
        cc_buf_str(ret, "\n## Different\n\n"
                        "Nothing fails here: without it another thing happens.\n\n");
        header(ret, "What", "Without it");
        cap_rows(ret, HV_CAP_QUIET);
        cc_buf_str(ret, "\n## Bounds\n\nWhere a driver says yes, this limits it.\n\n");
        header(ret, "What", "Which means");
        cap_rows(ret, HV_CAP_BOUND);
}

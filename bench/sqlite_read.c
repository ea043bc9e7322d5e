/*
 * Floors: open the store with bare SQLite, run one query, touch the bytes of its first column.
 * Default: every VM's record, what `vm list` cannot do without.
 * Usage: sqlite_read ROOT [SQL]
 */
#include <sqlite3.h>
#include <stdio.h>

int main(int argc, char **argv)
{
        char path[4096];
        sqlite3 *db = NULL;
        sqlite3_stmt *stmt = NULL;
        unsigned long sum = 0;
        int rows = 0;

        if (argc != 2 && argc != 3)
                return 2;
        (void)snprintf(path, sizeof(path), "%s/meta/meta.db", argv[1]);
        if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK ||
            sqlite3_prepare_v2(db, argc == 3 ? argv[2] : "SELECT data FROM vms ORDER BY created_at",
                               -1, &stmt, NULL) != SQLITE_OK) {
                (void)fprintf(stderr, "sqlite_read: %s\n", sqlite3_errmsg(db));
                return 1;
        }
        while (sqlite3_step(stmt) == SQLITE_ROW) {
                const unsigned char *text = sqlite3_column_text(stmt, 0);

                for (; text && *text; text++)
                        sum += *text;
                rows++;
        }
        (void)sqlite3_finalize(stmt);
        (void)sqlite3_close(db);
        (void)printf("%d %lu\n", rows, sum);
        return rows ? 0 : 1;
}

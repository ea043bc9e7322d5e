/* The floor of every start-up figure: a process that is loaded, linked to libc, and ends. */
int main(void)
{
        return 0;
}

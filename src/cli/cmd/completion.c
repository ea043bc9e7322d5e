/* cocoon completion: scripts that ask `cocoon __complete`. */
#include "cli/cli.h"
#include "cli/output.h"

static const char bash[] =
        "# bash completion for cocoon; load with: source <(cocoon completion bash)\n"
        "_cocoon() {\n"
        "    local cur words cword out line directive prefix i\n"
        "    if declare -F _get_comp_words_by_ref >/dev/null; then\n"
        "        _get_comp_words_by_ref -n '=:' cur words cword\n"
        "    else\n"
        "        words=(\"${COMP_WORDS[@]}\") cword=$COMP_CWORD cur=${COMP_WORDS[COMP_CWORD]}\n"
        "    fi\n"
        "    COMPREPLY=()\n"
        "    out=$(command \"${words[0]}\" __complete \"${words[@]:1:cword}\" 2>/dev/null) ||\n"
        "        return 0\n"
        "    directive=${out##*:}\n"
        "    out=${out%:*}\n"
        "    while IFS= read -r line; do\n"
        "        [[ -n $line ]] && COMPREPLY+=(\"${line%%$'\\t'*}\")\n"
        "    done <<<\"$out\"\n"
        "    # readline replaces only what follows the last word break\n"
        "    if declare -F _get_comp_words_by_ref >/dev/null && [[ $cur == *[:=]* ]]; then\n"
        "        prefix=${cur%\"${cur##*[:=]}\"}\n"
        "        for i in \"${!COMPREPLY[@]}\"; do\n"
        "            COMPREPLY[i]=${COMPREPLY[i]#\"$prefix\"}\n"
        "        done\n"
        "    fi\n"
        "    if ((directive & 16)); then\n"
        "        compopt -o dirnames\n"
        "    elif ! ((directive & 4)); then\n"
        "        compopt -o default\n"
        "    fi\n"
        "    return 0\n"
        "}\n"
        "complete -F _cocoon cocoon\n";

static const char zsh[] =
        "#compdef cocoon\n"
        "# zsh completion for cocoon; load with: source <(cocoon completion zsh)\n"
        "_cocoon() {\n"
        "    local -a lines candidates\n"
        "    local line value directive\n"
        "    lines=(\"${(@f)$(command ${words[1]} __complete \"${(@)words[2,CURRENT]}\" "
        "2>/dev/null)}\")\n"
        "    directive=${lines[-1]#:}\n"
        "    lines[-1]=()\n"
        "    for line in $lines; do\n"
        "        value=${line%%$'\\t'*}\n"
        "        if [[ $line == *$'\\t'* ]]; then\n"
        "            candidates+=(\"${value//:/\\\\:}:${line#*$'\\t'}\")\n"
        "        else\n"
        "            candidates+=(\"${value//:/\\\\:}\")\n"
        "        fi\n"
        "    done\n"
        "    (( ${#candidates} )) && _describe cocoon candidates\n"
        "    if (( directive & 16 )); then\n"
        "        _files -/\n"
        "    elif (( ! (directive & 4) )); then\n"
        "        _files\n"
        "    fi\n"
        "}\n"
        "if [[ ${funcstack[1]} == _cocoon ]]; then\n"
        "    _cocoon \"$@\"\n"
        "else\n"
        "    compdef _cocoon cocoon\n"
        "fi\n";

static const char fish[] =
        "# fish completion for cocoon; load with: cocoon completion fish | source\n"
        "function __cocoon_complete\n"
        "    set -l words (commandline -opc)\n"
        "    set -l current (commandline -ct)\n"
        "    set -l lines ($words[1] __complete $words[2..-1] \"$current\" 2>/dev/null)\n"
        "    test (count $lines) -gt 0; or return\n"
        "    set -l directive (string replace ':' '' -- $lines[-1])\n"
        "    set -e lines[-1]\n"
        "    for line in $lines\n"
        "        echo $line\n"
        "    end\n"
        "    if test (math \"bitand($directive, 16)\") -ne 0\n"
        "        __fish_complete_directories $current\n"
        "    else if test (math \"bitand($directive, 4)\") -eq 0\n"
        "        __fish_complete_path $current\n"
        "    end\n"
        "end\n"
        "complete -c cocoon -f -a '(__cocoon_complete)'\n";

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        static const struct {
                const char *shell, *script;
        } scripts[] = { { "bash", bash }, { "zsh", zsh }, { "fish", fish } };

        for (size_t i = 0; i < CC_ARRAY_LEN(scripts); i++)
                if (cc_streq(scripts[i].shell, cli->args[0])) {
                        out_text(scripts[i].script);
                        return 0;
                }
        return cc_fail(err, CC_USAGE, "unsupported shell: %s", cli->args[0]);
}

static const char *const shells[] = { "bash", "zsh", "fish", NULL };

const struct cmd cmd_completion = {
        .path = "completion",
        .args = "bash|zsh|fish",
        .min = 1,
        .max = 1,
        .help = "Print a shell completion script",
        .examples = "source <(cocoon completion bash)\n",
        .flags = CMD_NO_CONFIG | CMD_STREAM,
        .arg_values = shells,
        .run = run,
};

package main

// scripts are the templates of the completion scripts. Each finds the command in the words before the cursor, and
// offers the words that may follow it: flags only after a dash. After a flag that takes a value, it offers the values
// to choose from. Where it offers nothing, the shell completes file names.
var scripts = map[string]string{
	"bash": `_watchbox() {
	local command= word words= flag=${COMP_WORDS[COMP_CWORD-1]} current=${COMP_WORDS[COMP_CWORD]} dash=
	[[ $current == = ]] && current=
	[[ $flag == = ]] && flag=${COMP_WORDS[COMP_CWORD-2]}
	for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
		case "$command $word" in
{{- range .}}{{if .Command}}
		{{at .Command | quote}}) command+=" $word" ;;{{end}}{{end}}
		esac
	done
	case "$command $flag" in
{{- range .}}{{$at := at .Command}}{{range .Flags}}{{if .Value}}
	{{printf "%s --%s" $at .Text | quote}}{{if .Short}}|{{printf "%s -%s" $at .Short | quote}}{{end}}) words={{join .Values " " | quote}} ;;{{end}}{{end}}{{end}}
	*)
		[[ $current == -* ]] && dash=-
		case "$command $dash" in
{{- range .}}
		{{printf "%s -" (at .Command) | quote}}) words='{{range .Flags}} --{{.Text}}{{end}}' ;;
		{{printf "%s " (at .Command) | quote}}) words='{{range .Names}} {{.Text}}{{end}}' ;;{{end}}
		esac ;;
	esac
	COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _watchbox watchbox
`,

	"zsh": `#compdef watchbox
_watchbox() {
	local command= word flag=${words[CURRENT-1]} dash=
	local -a list
	for word in "${(@)words[2,CURRENT-1]}"; do
		case "$command $word" in
{{- range .}}{{if .Command}}
		{{at .Command | quote}}) command+=" $word" ;;{{end}}{{end}}
		esac
	done
	if [[ $PREFIX == --*=* ]]; then
		flag=${PREFIX%%=*}
		compset -P '*='
	fi
	case "$command $flag" in
{{- range .}}{{$at := at .Command}}{{range .Flags}}{{if .Value}}
	{{printf "%s --%s" $at .Text | quote}}{{if .Short}}|{{printf "%s -%s" $at .Short | quote}}{{end}}) list=({{join .Values " "}}) ;;{{end}}{{end}}{{end}}
	*)
		[[ $PREFIX == -* ]] && dash=-
		case "$command $dash" in
{{- range .}}
		{{printf "%s -" (at .Command) | quote}}) list=({{range .Flags}}
			{{printf "--%s:%s" .Text (zsh .Help) | quote}}{{end}}) ;;
		{{printf "%s " (at .Command) | quote}}) list=({{range .Names}}
			{{printf "%s:%s" .Text (zsh .Help) | quote}}{{end}}) ;;{{end}}
		esac ;;
	esac
	_describe watchbox list || _files
}
if [[ $funcstack[1] == _watchbox ]]; then
	_watchbox "$@"
else
	compdef _watchbox watchbox
fi
`,

	"fish": `function __watchbox_at -d 'Test whether the words before the cursor name this command of watchbox'
	set -l commands{{range .}}{{if .Command}} {{at .Command | fish}}{{end}}{{end}}
	set -l command ''
	for word in (commandline -opc)[2..-1]
		contains -- "$command $word" $commands; and set command "$command $word"
	end
	test "$command" = "$argv[1]"
end
{{range .}}{{$at := at .Command}}
{{- if .Names}}complete -c watchbox -n "__watchbox_at '{{$at}}'" -f
{{end}}{{range .Names}}complete -c watchbox -n "__watchbox_at '{{$at}}'" -a {{.Text}} -d {{fish .Help}}
{{end}}{{range .Flags}}complete -c watchbox -n "__watchbox_at '{{$at}}'" -l {{.Text}}
{{- if .Short}} -s {{.Short}}{{end}}{{if .Values}} -x -a {{join .Values " " | fish}}{{else if .Value}} -r{{end}} -d {{fish .Help}}
{{end}}{{end}}`,
}

package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"github.com/alecthomas/kong"
)

// man writes manual pages.
type man struct {
	Dir string `arg:"" help:"Folder to write to. It is created if it does not exist." type:"path"`
}

// Run writes a page for the program and one for each command.
func (m *man) Run(k *kong.Kong) error {
	if err := os.MkdirAll(m.Dir, 0o755); err != nil {
		return err
	}
	return writePages(m.Dir, k.Model.Node)
}

func writePages(dir string, node *kong.Node) error {
	if node.Hidden {
		return nil
	}
	f, err := os.Create(filepath.Join(dir, pageName(node)+".1"))
	if err != nil {
		return err
	}
	err = writePage(f, node)
	if e := f.Close(); err == nil {
		err = e
	}
	for _, child := range node.Children {
		if err == nil {
			err = writePages(dir, child)
		}
	}
	return err
}

// pageName returns the name of the page of a command, such as watchbox-token-create.
func pageName(node *kong.Node) string { return strings.ReplaceAll(node.FullPath(), " ", "-") }

func writePage(w io.Writer, node *kong.Node) error {
	return template.Must(template.New("page").Funcs(template.FuncMap{
		"page":    pageName,
		"roff":    roff,
		"groups":  flagGroups,
		"value":   defaultValue,
		"version": version,
		"upper":   strings.ToUpper,
		"first":   func(s string) string { first, _, _ := strings.Cut(s+" ", ". "); return strings.TrimSpace(first) },
		"usage":   func(n *kong.Node) string { return strings.TrimSpace(strings.TrimPrefix(n.Summary(), n.Path())) },
	}).Parse(page)).Execute(w, node)
}

// roff escapes text for a page.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`).Replace(text)
	if strings.HasPrefix(text, ".") {
		return `\&` + text
	}
	return text
}

// flagGroup holds flags that belong together, under a title.
type flagGroup struct {
	Title string
	Flags []*kong.Flag
}

// flagGroups returns the flags of a command and of those above it, but not the hidden ones. Flags without a group are
// first.
func flagGroups(node *kong.Node) []flagGroup {
	groups := []flagGroup{{}}
	for _, flags := range slices.Backward(node.AllFlags(true)) {
		for _, f := range flags {
			title := ""
			if f.Group != nil {
				title = strings.TrimSuffix(f.Group.Title, ":")
			}
			i := slices.IndexFunc(groups, func(g flagGroup) bool { return g.Title == title })
			if i < 0 {
				i, groups = len(groups), append(groups, flagGroup{Title: title})
			}
			groups[i].Flags = append(groups[i].Flags, f)
		}
	}
	return groups
}

// defaultValue returns the default of a flag, or "" if it has none or if it depends on the machine.
func defaultValue(f *kong.Value) string {
	if strings.Contains(f.Tag.Default, "${") {
		return ""
	}
	return f.Default
}

// page is the template of a page, in the man(7) language.
var page = fmt.Sprintf(`.TH {{page . | upper | roff}} 1 "" {{printf "%%q" version}} "Watchbox"
.SH NAME
{{page . | roff}} \- {{first .Help | roff}}
.SH SYNOPSIS
\fB{{.FullPath | roff}}\fR {{usage . | roff}}
.SH DESCRIPTION
{{roff .Help}}
{{- if .Detail}}
.PP
{{roff .Detail}}{{end}}
{{- with .Children}}
.SH COMMANDS{{range .}}{{if not .Hidden}}
.TP
.BR {{page . | roff}} (1)
{{roff .Help}}{{end}}{{end}}{{end}}
{{- with .Positional}}
.SH ARGUMENTS{{range .}}
.TP
.I {{roff .Summary}}
{{roff .Help}}{{with value .}} The default is %[1]s.{{end}}{{template "envs" .Tag.Envs}}{{end}}{{end}}
.SH OPTIONS{{range groups .}}{{with .Title}}
.SS {{roff .}}{{end}}{{range .Flags}}
.TP
\fB{{if .Short}}\-{{printf "%%c" .Short}}\fR, \fB{{end}}\-\-{{roff .Name}}\fR{{if not .IsBool}}=\fI{{roff .FormatPlaceHolder}}\fR{{end}}
{{roff .Help}}{{if not .IsBool}}{{with value .Value}} The default is %[1]s.{{end}}{{end}}{{template "envs" .Envs}}{{end}}{{end}}
.SH EXIT STATUS
0 for success, 1 for a failure, %[2]d if the command line or a setting is wrong.
.SH SEE ALSO
{{if .Parent}}.BR {{page .Parent | roff}} (1){{else}}The documentation: https://github.com/watchbox\-go/watchbox{{end}}
{{define "envs"}}{{range .}}
Environment: \fB\%%{{roff .}}\fR.{{end}}{{end}}`, `\fB{{roff .}}\fR`, exitUsage)

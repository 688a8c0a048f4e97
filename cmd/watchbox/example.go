package main

import (
	"io"
	"os"
	"strings"
	"text/template"

	"github.com/alecthomas/kong"
)

// example prints the settings of serve.
type example struct{}

// Run prints an environment file with all settings of serve, each in a comment with its default.
func (*example) Run(k *kong.Kong) error {
	for _, node := range k.Model.Children {
		if node.Name == "serve" {
			return writeExample(os.Stdout, node)
		}
	}
	return nil
}

func writeExample(w io.Writer, serve *kong.Node) error {
	return template.Must(template.New("example").Funcs(template.FuncMap{
		"groups": flagGroups, "lines": commentLines, "value": exampleValue,
	}).Parse(`# Settings of "watchbox serve", each with its default. To change one, remove the # before its name.
# A setting that may be repeated takes several values with commas between them.
{{range groups .}}{{if .Title}}
### {{.Title}}
{{end}}{{range .Flags}}{{if .Envs}}
{{lines .Help}}#{{index .Envs 0}}={{value .}}
{{end}}{{end}}{{end}}`)).Execute(w, serve)
}

// exampleValue returns the default of a setting, or the name of its value.
func exampleValue(f *kong.Flag) string {
	switch {
	case defaultValue(f.Value) != "":
		return f.Default
	case f.IsBool():
		return "false"
	case f.HasDefault: // it depends on the machine
		return ""
	}
	return strings.TrimSuffix(f.FormatPlaceHolder(), ",...")
}

// commentLines returns text as comments of at most 100 columns.
func commentLines(text string) string {
	const columns = 100
	var b strings.Builder
	line := "#"
	for _, word := range strings.Fields(text) {
		if len(line)+1+len(word) > columns {
			b.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	return b.String() + line + "\n"
}

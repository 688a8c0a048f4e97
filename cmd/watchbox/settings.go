package main

import (
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// settings are the settings of a YAML file, named like the flags.
type settings map[string]any

func loadSettings(r io.Reader) (kong.Resolver, error) {
	s := settings{}
	if err := yaml.NewDecoder(r).Decode(&s); err != nil && err != io.EOF {
		return nil, err
	}
	return s, nil
}

// Validate refuses a name that is not a flag.
func (s settings) Validate(app *kong.Application) error {
	var names []string
	for _, node := range app.Leaves(false) {
		for _, f := range node.Flags {
			names = append(names, f.Name)
		}
	}
	for name := range s {
		if !slices.Contains(names, name) {
			return fmt.Errorf("config file: unknown setting %q", name)
		}
	}
	return nil
}

// Resolve returns the value of a flag in the file, unless the environment has one.
func (s settings) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	for _, name := range flag.Envs {
		if _, ok := os.LookupEnv(name); ok {
			return nil, nil
		}
	}
	switch v := s[flag.Name].(type) {
	case nil:
		return nil, nil
	case []any:
		return v, nil
	case bool:
		return v, nil
	default:
		return fmt.Sprint(v), nil // as on the command line
	}
}

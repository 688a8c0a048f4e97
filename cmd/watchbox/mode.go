package main

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// mode is a file's permissions in octal, such as 0660. The leading zero is required, because YAML reads 0660
// without quotes as the number 432.
type mode fs.FileMode

func (m *mode) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 8, 32)
	if err != nil || !strings.HasPrefix(string(text), "0") || n > uint64(fs.ModePerm) {
		return fmt.Errorf(`%q is not a mode such as 0660 (in YAML: "0660")`, text)
	}
	*m = mode(n)
	return nil
}

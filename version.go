package watchbox

import "runtime/debug"

// version returns the version of this module in the program, such as v1.2.3.
func version() string {
	const module = "github.com/watchbox-go/watchbox"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "(devel)"
	}
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == module && m.Version != "" {
			return m.Version
		}
	}
	return "(devel)"
}

//go:build !unix

package access

// lockFile does nothing on this system: callers must not edit a token file concurrently.
func lockFile(string) (unlock func(), err error) { return func() {}, nil }

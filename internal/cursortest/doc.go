// Package cursortest is the test suite for positions of readers on a kind of log. It tests the promises of package
// cursor, and compares random operations and crashes with a model.
package cursortest

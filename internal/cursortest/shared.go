package cursortest

var sharedTests = []test{}

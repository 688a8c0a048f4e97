package watchbox

import _ "embed"

// The contract is in the root directory, where readers look for it. go:embed therefore needs a Go file there.
//
//go:embed openapi.yaml
var openapi []byte

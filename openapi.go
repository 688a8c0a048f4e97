package watchbox

import _ "embed"

// The contract lies at the top for its readers, and embedding cannot look upwards: so this does.
//
//go:embed openapi.yaml
var openapi []byte

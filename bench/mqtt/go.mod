module github.com/watchbox-go/watchbox/bench/mqtt

go 1.26.0

require (
	github.com/watchbox-go/watchbox v0.0.0
	github.com/watchbox-go/watchbox/test/cluster v0.0.0
	golang.org/x/sys v0.50.0
)

replace (
	github.com/watchbox-go/watchbox => ../..
	github.com/watchbox-go/watchbox/test/cluster => ../../test/cluster
)

module wasmorch.dev/examples/web-go

go 1.23

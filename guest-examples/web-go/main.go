// A web server in Go on WASI 0.1, with the standard library's net/http.
//
// WASI 0.1 cannot make sockets. wasmorch hands it one listening socket per declared container port,
// already listening, and names its descriptor in WASMORCH_LISTEN_FD_<port>; Go takes it as a file.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
)

func listen(port string) (net.Listener, error) {
	fd, err := strconv.Atoi(os.Getenv("WASMORCH_LISTEN_FD_" + port))
	if err != nil {
		return nil, fmt.Errorf("declare containerPort %s", port)
	}
	// Otherwise accepting would hold the whole program up, and not just a goroutine.
	if err := syscall.SetNonblock(fd, true); err != nil {
		return nil, err
	}
	return net.FileListener(os.NewFile(uintptr(fd), "listener"))
}

func main() {
	listener, err := listen("8080")
	if err != nil {
		log.Fatal(err)
	}
	var requests atomic.Int64
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("content-type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{
			"path":     r.URL.Path,
			"requests": requests.Add(1),
			"platform": runtime.GOOS + "/" + runtime.GOARCH,
		})
	})
	http.HandleFunc("/motd", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, "/etc/web/motd")
	})
	log.Printf("listening on %s", listener.Addr())
	log.Fatal(http.Serve(listener, nil))
}

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// machine is the machine and the versions with which the figures were measured.
type machine struct {
	cpu, kernel   string
	cores         int
	caddy         string
	fileSystem    string
	syncs         time.Duration // median of a small durable write
	date          time.Time
	loadAtStart   string
	callbackBytes int
}

func (b *bench) describe(ctx context.Context) (machine, error) {
	m := machine{cores: runtime.NumCPU(), date: time.Now(), callbackBytes: len(sampleCallback)}
	cpuinfo, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return m, fmt.Errorf("bench needs Linux: %w", err)
	}
	if model, err := field(string(cpuinfo), "model name"); err == nil {
		m.cpu = strings.TrimSpace(strings.TrimPrefix(model, ":"))
	}
	m.cpu = cmp.Or(m.cpu, runtime.GOARCH)
	kernel, errKernel := os.ReadFile("/proc/sys/kernel/osrelease")
	m.kernel = strings.TrimSpace(string(kernel))
	load, errLoad := os.ReadFile("/proc/loadavg")
	m.loadAtStart, _, _ = strings.Cut(string(load), " ")
	mounts, errMounts := os.ReadFile("/proc/self/mountinfo")
	dir, errDir := filepath.EvalSymlinks(b.dir)
	m.fileSystem = fileSystemType(string(mounts), dir)
	version, errVersion := command(ctx, b.caddy, "version").Output()
	m.caddy, _, _ = strings.Cut(strings.TrimSpace(string(version)), " ")
	var errSync error
	m.syncs, errSync = measureSync(b.dir)
	return m, errors.Join(errKernel, errLoad, errMounts, errDir, errVersion, errSync)
}

func (m machine) String() string {
	return fmt.Sprintf("%s, %s, %d cores, Linux %s, %s, Caddy %s, %s (a 4 KiB write and fsync takes %s), callback of %d bytes, load average %s at the start.",
		m.date.Format(time.DateOnly), m.cpu, m.cores, m.kernel, runtime.Version(), m.caddy, m.fileSystem,
		m.syncs.Round(time.Microsecond), m.callbackBytes, m.loadAtStart)
}

// fileSystemType returns the type of the file system of an absolute path without symbolic
// links, from the lines of mountinfo(5).
func fileSystemType(mountinfo, path string) string {
	kind, longest := "unknown file system", -1
	for line := range strings.Lines(mountinfo) {
		mount, super, found := strings.Cut(line, " - ")
		fields, superFields := strings.Fields(mount), strings.Fields(super)
		if !found || len(fields) < 5 || len(superFields) < 1 {
			continue
		}
		point := fields[4]
		within := point == "/" || path == point || strings.HasPrefix(path, point+"/")
		if within && len(point) >= longest { // of two at the same place, the later one is visible
			kind, longest = superFields[0], len(point)
		}
	}
	return kind
}

// measureSync returns the median time of a small durable write in dir, which is the least
// that a commit takes.
func measureSync(dir string) (time.Duration, error) {
	file, err := os.CreateTemp(dir, "sync")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.Remove(file.Name()) }() // dir is removed anyway
	const writes = 101
	page := make([]byte, 4<<10)
	took := make([]time.Duration, writes)
	for i := range took {
		begin := time.Now()
		if _, err := file.Write(page); err != nil {
			return 0, errors.Join(err, file.Close())
		}
		if err := file.Sync(); err != nil {
			return 0, errors.Join(err, file.Close())
		}
		took[i] = time.Since(begin)
	}
	slices.Sort(took)
	return took[writes/2], file.Close()
}

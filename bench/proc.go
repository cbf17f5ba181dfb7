package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of the times in /proc/<pid>/stat: USER_HZ is 100 on every
// architecture that Go runs on.
const tick = 10 * time.Millisecond

// cpuTime returns the user and system time that a running process has used.
func cpuTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseCPUTime(string(text))
}

func parseCPUTime(stat string) (time.Duration, error) {
	// the second field, the command in parentheses, may have any characters
	_, rest, found := cutLast(stat, ")")
	fields := strings.Fields(rest)
	const user, system = 11, 12 // fields 14 and 15 of the line
	if !found || len(fields) <= system {
		return 0, fmt.Errorf("unexpected process status %.200q", stat)
	}
	u, errUser := strconv.ParseInt(fields[user], 10, 64)
	s, errSystem := strconv.ParseInt(fields[system], 10, 64)
	return time.Duration(u+s) * tick, errors.Join(errUser, errSystem)
}

func cutLast(s, separator string) (before, after string, found bool) {
	i := strings.LastIndex(s, separator)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(separator):], true
}

// peakRSS returns the peak of a running process's resident memory in bytes, including the
// pages of mapped files.
func peakRSS(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	return parsePeakRSS(string(text))
}

func parsePeakRSS(status string) (int64, error) {
	value, err := field(status, "VmHWM:")
	if err != nil {
		return 0, err
	}
	kilobytes, err := strconv.ParseInt(strings.TrimSuffix(value, " kB"), 10, 64)
	return kilobytes << 10, err
}

// field returns the rest of the line that begins with a name.
func field(text, name string) (string, error) {
	for line := range strings.Lines(text) {
		if value, found := strings.CutPrefix(line, name); found {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("no line begins with %q", name)
}

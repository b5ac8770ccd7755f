package main

import (
	"encoding/binary"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What Linux's sock_diag(7) is asked for, from linux/sock_diag.h and linux/inet_diag.h.
const (
	netlinkSockDiag  = 4
	sockDiagByFamily = 20
	inetDiagInfo     = 2 // the attribute that holds a tcp_info
	tcpEstablished   = 1
	requestBytes     = 16 + 56 // nlmsghdr and inet_diag_req_v2
	messageBytes     = 72      // inet_diag_msg, which the attributes follow
)

// traffic is what one end of a TCP connection has sent, as far as the other has acknowledged it, and
// received.
type traffic struct{ sent, received int64 }

// trafficTo gives the traffic of the connection over IPv4 whose other end has the port. The kernel
// counts it anyway, so that measuring costs the connection nothing, as a proxy would.
func trafficTo(port int) (traffic, error) {
	replies, err := establishedTo(port)
	if err != nil {
		return traffic{}, fmt.Errorf("sock_diag: %w", err)
	}
	for _, m := range replies {
		if m.Header.Type != sockDiagByFamily || len(m.Data) < messageBytes {
			continue
		}
		if int(binary.BigEndian.Uint16(m.Data[6:])) != port { // struct inet_diag_sockid begins at 4: source, destination
			continue
		}
		if t, ok := parseTraffic(m.Data[messageBytes:]); ok {
			return t, nil
		}
	}
	return traffic{}, fmt.Errorf("there is no connection to port %d", port)
}

func establishedTo(port int) ([]syscall.NetlinkMessage, error) {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, netlinkSockDiag)
	if err != nil {
		return nil, err
	}
	defer func() { _ = syscall.Close(fd) }()

	request := make([]byte, requestBytes)
	native := binary.NativeEndian
	native.PutUint32(request[0:], requestBytes)
	native.PutUint16(request[4:], sockDiagByFamily)
	native.PutUint16(request[6:], syscall.NLM_F_REQUEST|syscall.NLM_F_DUMP)
	request[16], request[17] = syscall.AF_INET, syscall.IPPROTO_TCP
	request[18] = 1 << (inetDiagInfo - 1)
	native.PutUint32(request[20:], 1<<tcpEstablished)
	binary.BigEndian.PutUint16(request[26:], uint16(port))
	if err := syscall.Sendto(fd, request, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return nil, err
	}

	var all []syscall.NetlinkMessage
	for {
		buffer := make([]byte, 64<<10) // the messages point into it
		n, _, err := syscall.Recvfrom(fd, buffer, 0)
		if err != nil {
			return nil, err
		}
		messages, err := syscall.ParseNetlinkMessage(buffer[:n])
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			switch m.Header.Type {
			case syscall.NLMSG_DONE:
				return all, nil
			case syscall.NLMSG_ERROR:
				return nil, syscall.Errno(-int32(native.Uint32(m.Data)))
			}
			all = append(all, m)
		}
	}
}

// parseTraffic looks for the tcp_info among the attributes.
func parseTraffic(attributes []byte) (traffic, bool) {
	const (
		sent     = unsafe.Offsetof(unix.TCPInfo{}.Bytes_acked)
		received = unsafe.Offsetof(unix.TCPInfo{}.Bytes_received)
	)
	for len(attributes) >= syscall.SizeofRtAttr {
		length, kind := binary.NativeEndian.Uint16(attributes), binary.NativeEndian.Uint16(attributes[2:])
		if int(length) < syscall.SizeofRtAttr || int(length) > len(attributes) {
			break
		}
		value := attributes[syscall.SizeofRtAttr:length]
		if kind == inetDiagInfo && len(value) >= int(received)+8 {
			return traffic{
				sent:     int64(binary.NativeEndian.Uint64(value[sent:])),
				received: int64(binary.NativeEndian.Uint64(value[received:])),
			}, true
		}
		attributes = attributes[min(len(attributes), (int(length)+3)&^3):]
	}
	return traffic{}, false
}

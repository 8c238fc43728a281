package table

import (
	"syscall"
	"unsafe"
)

// huge is the size of the pages that hugePages asks for, and their alignment.
const huge = 2 << 20

// hugePages asks the kernel for pages of 2 MiB where a large chunk is, before anything is written there:
// with pages of 4 KiB every decision finds its row on one of which the processor does not know where it is.
// It is advice, which the kernel may take, for what it has not mapped yet. A page may stick out of the
// chunk: it is the heap's all the same, which is reserved in larger parts.
func hugePages(chunk []byte) {
	if cap(chunk) < huge/2 {
		return
	}
	begin := uintptr(unsafe.Pointer(unsafe.SliceData(chunk)))
	end := begin + uintptr(cap(chunk))
	begin, end = begin&^(huge-1), (end+huge-1)&^(huge-1)
	_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, begin, end-begin, syscall.MADV_HUGEPAGE)
}

package table

import (
	"syscall"
	"unsafe"
)

// huge is the size and the alignment of the pages that hugePages asks for.
const huge = 2 << 20

// hugePages asks the kernel for pages of 2 MiB for a large chunk, before anything is written there. With
// pages of 4 KiB, every decision would miss the processor's address cache. The kernel may ignore the advice.
// It applies to memory that is not mapped yet. A page may extend past the chunk. That memory belongs to Go's
// heap too, which is reserved in larger units.
func hugePages(chunk []byte) {
	if cap(chunk) < huge/2 {
		return
	}
	begin := uintptr(unsafe.Pointer(unsafe.SliceData(chunk)))
	end := begin + uintptr(cap(chunk))
	begin, end = begin&^(huge-1), (end+huge-1)&^(huge-1)
	_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, begin, end-begin, syscall.MADV_HUGEPAGE)
}

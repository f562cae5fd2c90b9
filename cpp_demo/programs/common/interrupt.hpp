/// @file
/// SIGINT and SIGTERM end a program cleanly; a second one ends it immediately.
#ifndef LRP_EDGE_PROGRAMS_COMMON_INTERRUPT_HPP
#define LRP_EDGE_PROGRAMS_COMMON_INTERRUPT_HPP

namespace programs {

/// Take the signals from now on.
void catch_interrupts();

/// Whether one has come.
bool interrupted() noexcept;

}  // namespace programs

#endif

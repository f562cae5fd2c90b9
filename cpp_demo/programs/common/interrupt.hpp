/// @file
/// SIGINT and SIGTERM end a program cleanly; another one, half a second later or more, ends it immediately.
#ifndef LRP_EDGE_PROGRAMS_COMMON_INTERRUPT_HPP
#define LRP_EDGE_PROGRAMS_COMMON_INTERRUPT_HPP

namespace programs {

/// Take the signals from now on.
void catch_interrupts();

/// Whether one has come.
bool interrupted() noexcept;

}  // namespace programs

#endif

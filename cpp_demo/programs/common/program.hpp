/// @file
/// What the programs' command lines have in common.
#ifndef LRP_EDGE_PROGRAMS_COMMON_PROGRAM_HPP
#define LRP_EDGE_PROGRAMS_COMMON_PROGRAM_HPP

#include <lrp_edge/lrp_edge.hpp>

#include <CLI/CLI.hpp>

#include <functional>
#include <string>

namespace programs {

/// Exit codes.
constexpr int kDone = 0;
constexpr int kFailed = 1;
constexpr int kMisused = 2;

/// The model and how it is opened.
struct ModelOptions {
  std::string path;
  lrp_edge::Options options;

  void add_to(CLI::App& app);
};

/// Say on stderr what of a model was not shown to be better than chance, in one line, if there is anything.
void warn_of(const lrp_edge::Card& card, const std::string& program);

/// Parse a command line and run a program; an error is one line on stderr.
/// @return The exit code.
int run_program(CLI::App& app, int count, char** words, const std::function<int()>& body);

}  // namespace programs

#endif

// open_engine ENGINE: opens an engine with the native backend, or says why not.

#include "backend.hpp"

#include <lrp_edge/error.hpp>

#include <iostream>

int main(int count, char** words) {
  if (count != 2) return 2;
  try {
    std::cout << lrp_edge::open_tensorrt(words[1], {})->provider() << "\n";
  } catch (const lrp_edge::Error& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
  return 0;
}

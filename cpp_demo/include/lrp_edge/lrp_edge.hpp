/// @file
/// All of lrp_edge for C++.
#ifndef LRP_EDGE_LRP_EDGE_HPP
#define LRP_EDGE_LRP_EDGE_HPP

#include <lrp_edge/card.hpp>
#include <lrp_edge/error.hpp>
#include <lrp_edge/result.hpp>
#include <lrp_edge/segmenter.hpp>
#include <lrp_edge/views.hpp>

#endif

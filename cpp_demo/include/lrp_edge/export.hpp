/// @file
/// Makes a symbol visible outside the shared library; everything else is hidden.
#ifndef LRP_EDGE_EXPORT_HPP
#define LRP_EDGE_EXPORT_HPP

#if defined(LRP_EDGE_STATIC)
#define LRP_EDGE_API
#elif defined(_WIN32)
#if defined(LRP_EDGE_BUILDING)
#define LRP_EDGE_API __declspec(dllexport)
#else
#define LRP_EDGE_API __declspec(dllimport)
#endif
#else
#define LRP_EDGE_API __attribute__((visibility("default")))
#endif

#endif

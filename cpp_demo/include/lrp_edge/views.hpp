/// @file
/// Non-owning views of frames, lists and images.
#ifndef LRP_EDGE_VIEWS_HPP
#define LRP_EDGE_VIEWS_HPP

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

namespace lrp_edge {

/// Contiguous elements that are owned elsewhere.
template <class T>
class Span {
 public:
  constexpr Span() noexcept = default;
  constexpr Span(T* data, std::size_t size) noexcept : data_(data), size_(size) {}

  /// Any container with `data()` and `size()`: std::vector, std::array, a span of something else.
  template <class Container,
            class = std::enable_if_t<std::is_convertible_v<decltype(std::declval<Container&>().data()), T*>>>
  constexpr Span(Container& container) noexcept : data_(container.data()), size_(container.size()) {}

  constexpr T* data() const noexcept { return data_; }
  constexpr std::size_t size() const noexcept { return size_; }
  constexpr bool empty() const noexcept { return size_ == 0; }
  constexpr T* begin() const noexcept { return data_; }
  constexpr T* end() const noexcept { return data_ + size_; }
  constexpr T& operator[](std::size_t index) const noexcept { return data_[index]; }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

/// One frame in a buffer that is owned elsewhere: a grabber's, a cv::Mat's, a mapped file's.
struct FrameView {
  const std::uint8_t* data = nullptr;  ///< First byte of the upper row.
  std::size_t height = 0;              ///< Pixels.
  std::size_t width = 0;               ///< Pixels.
  std::size_t channels = 0;            ///< Bytes of a pixel, in the order that the model card says; 1 for gray.
  std::ptrdiff_t stride = 0;           ///< Bytes from one row to the next; 0 if the rows are adjacent.
};

/// A plane of `height` x `width` values whose rows are adjacent.
template <class T>
struct PlaneView {
  const T* data = nullptr;  ///< Value of the upper left pixel.
  std::size_t height = 0;   ///< Pixels.
  std::size_t width = 0;    ///< Pixels.

  constexpr std::size_t size() const noexcept { return height * width; }
  constexpr const T& operator()(std::size_t y, std::size_t x) const noexcept { return data[y * width + x]; }
};

}  // namespace lrp_edge

#endif

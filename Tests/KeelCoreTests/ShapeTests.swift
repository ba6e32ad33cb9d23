import KeelCore
import Testing

@Suite struct ShapeTests {
  @Test func countsAndStrides() {
    #expect(Shape.scalar.count == 1 && Shape.scalar.rank == 0 && Shape.scalar.strides == [])
    #expect(([2, 3, 4] as Shape).count == 24)
    #expect(([2, 3, 4] as Shape).strides == [12, 4, 1])
    #expect(([2, 0, 4] as Shape).count == 0)
    #expect("\([2, 3] as Shape)" == "[2, 3]")
    #expect("\(TensorType([2, 3], .uint8))" == "u8[2, 3]")
    #expect(TensorType([2, 3], .float64).byteCount == 48)
  }

  /// Extents come from files: numbers that no memory holds are numbers, not traps.
  @Test func hugeShapesSaturate() {
    let huge: Shape = [1 << 40, 1 << 40, 3]
    #expect(huge.count == .max && huge.strides == [3 << 40, 3, 1])
    #expect(([3, 1 << 40, 1 << 40] as Shape).strides == [.max, 1 << 40, 1])
    #expect(([1 << 40, 0, 1 << 40, 1 << 40] as Shape).count == 0)
    #expect(([1 << 40, -1, 1 << 40] as Shape).count == 0 && ([-2, -3] as Shape).count == 0)
    #expect(([1, 1 << 40, -(1 << 40)] as Shape).strides == [.min, -(1 << 40), 1])
    #expect(([Int.max] as Shape).count == .max)
    #expect(TensorType([1 << 62], .float64).byteCount == .max)
    #expect(TensorType([1 << 59], .float64).byteCount == 1 << 62)
  }

  @Test func axes() {
    let shape: Shape = [2, 3, 4]
    #expect([0, 2, -1, -3].map { shape.resolve(axis: $0) } == [0, 2, 2, 0])
    #expect([3, -4].allSatisfy { shape.resolve(axis: $0) == nil })
    #expect(Shape.scalar.resolve(axis: 0) == nil)
  }

  @Test(
    arguments: [
      ([], [], []), ([], [3], [3]), ([4, 3], [3], [4, 3]), ([4, 3], [1], [4, 3]), ([4, 1], [1, 3], [4, 3]),
      ([2, 1, 5], [7, 1], [2, 7, 5]), ([0], [1], [0]), ([3, 0], [1, 1], [3, 0]), ([1, 1, 1], [2], [1, 1, 2]),
    ] as [([Int], [Int], [Int])])
  func broadcast(a: [Int], b: [Int], expected: [Int]) {
    #expect(Shape(a).broadcast(with: Shape(b)) == Shape(expected))
    #expect(Shape(b).broadcast(with: Shape(a)) == Shape(expected))
  }

  @Test(arguments: [([3], [4]), ([4, 3], [4]), ([2, 3], [3, 2]), ([0], [2]), ([2, 1, 5], [7, 4])])
  func noBroadcast(a: [Int], b: [Int]) {
    #expect(Shape(a).broadcast(with: Shape(b)) == nil)
    #expect(Shape(b).broadcast(with: Shape(a)) == nil)
  }
}

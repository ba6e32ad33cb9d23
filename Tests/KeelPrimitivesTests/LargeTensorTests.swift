import KeelCL
import KeelCore
import KeelKernels
import Testing

@testable import KeelPrimitives

/// Tensors of more than 2³¹ elements or bytes: offsets are computed in 64 bits.
@Suite(.serialized) struct LargeTensorTests {
  private func context(_ device: Device) throws -> ComputeContext {
    try ComputeContext(device, environment: ["KEEL_CACHE_DIR": ""])
  }

  /// The `count` integers that `kernel`, written behind the header of the batch norm kernels, leaves in `out`.
  private func integers(
    _ kernel: String, _ arguments: [Int64], count: Int, global: [Int] = [1], runLanes: Int = 16, on device: Device
  ) throws -> [Int] {
    let context = try context(device)
    let parameters = ["__global long* out"] + arguments.indices.map { "long a\($0)" }
    let header = try [
      "batchnorm_columns.clh", "batchnorm_groups.clh", "batchnorm_grid.clh", "batchnorm_runs.clh",
    ].map { try KernelSource().resolved($0) }
    let source =
      "#define RUN_LANES \(runLanes)\n" + header.joined(separator: "\n")
      + "\n__kernel void batchnorm_test(\(parameters.joined(separator: ", "))) {\n\(kernel)\n}\n"
    let program = try Program(context: context.context, source: source, options: "-cl-std=CL1.2", name: "test")
    let test = try program.kernel("batchnorm_test")
    let out = try context.buffer(byteCount: 8 * count)
    try test.setArgument(0, out)
    for (index, argument) in arguments.enumerated() { try test.setArgument(index + 1, argument) }
    _ = try context.queue.enqueue(test, global: global, local: nil)
    return try context.queue.read(out, as: Int64.self, count: count).map { Int($0) }
  }

  /// [outer, C, inner] of 7·10¹⁸ elements or fewer, and a channel of it.
  private static let shapes: [(outer: Int, C: Int, inner: Int, c: Int)] = [
    (1 << 30, 5, 7, 3), (3, 2, 2_000_000_011, 1), (2_000_000_011, 3, 5, 2), (2_147_483_647, 2_147_483_647, 1, 7),
    (70_001, 65_537, 1_600_000_001, 65_536),
  ]

  private func offset(_ value: Int, _ shape: (outer: Int, C: Int, inner: Int, c: Int)) -> Int {
    ((value / shape.inner) * shape.C + shape.c) * shape.inner + value % shape.inner
  }

  @Test(arguments: shapes.indices) func valuesOfAChannel(_ index: Int) throws {
    let shape = Self.shapes[index]
    // Around the last change of runs, and the end.
    let m = shape.outer * shape.inner
    let starts = [m - 11, (shape.outer - 1) * shape.inner - 5].filter { $0 >= 0 && $0 + 11 <= m }
    for device in try Device.all() {
      for first in starts {
        let walked = try integers(
          """
          const size_t first = a0, last = first + 11, c = a1;
          const int C = a2, inner = a3;
          int k = 0;
          FOR_VALUES_OF_CHANNEL(index, first, last, c, C, inner) out[k++] = index;
          ChannelCursor at = cursor_at(first, 2, c, C, inner);
          for (int n = 0; n < 5; n++, advance(&at, 2, C, inner)) out[k++] = at.index;
          FOR_RUNS_OF_CHANNEL(start, i, length, first, last, c, C, inner) {
            for (size_t n = 0; n < length; n++) out[k++] = start + n;
          }
          """, [first, shape.c, shape.C, shape.inner].map { Int64($0) }, count: 27, on: device)
        let expected = (0..<11).map { offset(first + $0, shape) }
        #expect(walked == expected + stride(from: 0, to: 10, by: 2).map { expected[$0] } + expected, "\(device)")
      }
    }
  }

  /// The last lanes of a run lie in a vector inside the run, whatever its offset.
  @Test(arguments: [8, 16]) func tailsOfRuns(_ lanes: Int) throws {
    for device in try Device.all() {
      for (i, length) in [(0, 9), (3, 12), (1_999_999_996, 15), (2, 5), (0, 7)] {
        let base = 5_000_000_000
        let result = try integers(
          """
          const size_t index = a0, i = a1, length = a2;
          REAL lane[RUN_LANES];
          const RUN mask = IN_TAIL(i, length) ? (RUN)1 : (RUN)0;
          vstore\(lanes)(mask, 0, lane);
          out[0] = TAIL_OFFSET(index, i, length);
          for (int l = 0; l < RUN_LANES; l++) out[1 + l] = lane[l];
          """, [Int64(base + i), Int64(i), Int64(length)], count: 1 + lanes, runLanes: lanes, on: device)
        // The run begins at `base`.
        let tail = Set((base + i + length - length % lanes)..<(base + i + length))
        #expect(result[0] >= base && result[0] <= max(base + i + length - lanes, base), "\(i), \(length)")
        let meant = Set((0..<lanes).filter { result[1 + $0] == 1 }.map { result[0] + $0 })
        #expect(meant == tail, "\(i), \(length) on \(device)")
      }
    }
  }

  @Test func channelsAndRowsOfAGrid() throws {
    for device in try Device.all() {
      // [inner, C, outer], the last two axes shorter than the tensor's: the second channel and row of the last item.
      let (C, inner) = (60_000, 30_001)
      let grid = try integers(
        """
        const int outer = a0, C = a1, inner = a2;
        int k = 0;
        FOR_COLUMNS_OF_GRID(col, C, inner) {
          int n = 0;
          FOR_ROWS_OF_GRID(full, col, outer, C, inner) {
            if (get_global_id(0) == 1 && get_global_id(1) == 2 && get_global_id(2) == 4 && k < 4) out[k++] = full;
            if (++n == 2) break;
          }
          if (k == 4) break;
        }
        """, [9, Int64(C), Int64(inner)], count: 4, global: [2, 3, 5], on: device)
      // Row 4 of channels 2, 5, 8 and 11: there is no row 9 of nine.
      #expect(grid == [2, 5, 8, 11].map { (4 * C + $0) * inner + 1 }, "\(device)")

      let rows = try integers(
        """
        const int outer = a0, C = a1;
        FOR_COLUMNS_OF_GRID(col, C, 1) {
          int k = 0;
          FOR_ROWS_OF_GRID(full, col, outer, C, 1) {
            if (get_global_id(0) == 1 && get_global_id(1) == 2) out[k] = full;
            if (++k == 3) break;
          }
        }
        """, [2_147_483_647, 2_147_483_647], count: 3, global: [2, 3], on: device)
      #expect(rows == [2, 5, 8].map { $0 * 2_147_483_647 + 1 }, "\(device)")
    }
  }

  /// Sizes that an `int` of a kernel does not hold are refused before anything is launched.
  @Test func sizesBeyondAnIntAreRefused() throws {
    let context = try context(Device.best())
    let buffer = try context.buffer(byteCount: 64)
    for shape: Shape in [[1 << 31, 2], [2, 3, 1 << 31]] {
      let problem = BatchNormForwardProblem(ChannelExtents(shape, axis: 1), epsilon: 1e-5)
      #expect(problem.extents.count == shape.count)
      for variant in BatchNormForwardProblem.variants where variant.takes(problem, context.profile) {
        let operands = Operands(
          outputs: Array(repeating: buffer, count: 4), inputs: Array(repeating: buffer, count: 3), workspace: buffer)
        let error = #expect(throws: PrimitiveError.self) { try variant.bind(problem, operands, context) }
        #expect(error?.description.contains("expects sizes below 2³¹, got 2147483648") == true, "\(variant.name)")
      }
    }
  }

  /// Rows that lie beyond 2³¹ bytes. Nobody writes the buffer but for these rows: its pages are never there.
  @Test func gatherReachesBeyondTwoGiB() throws {
    let (width, rows) = (1 << 16, (1 << 15) + 9)
    for device in try Device.all() {
      guard device.maxAllocationBytes >= rows * width else {
        print(
          "skipped: \(device.name) allocates \(device.maxAllocationBytes) bytes at once, \(rows * width) are needed")
        continue
      }
      let context = try context(device)
      let data = try Buffer(context: context.context, byteCount: rows * width)
      let row = (0..<width).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ 3) }
      try context.queue.write(data, row, offset: (rows - 2) * width)
      let (order, cursor) = (try context.buffer(byteCount: 4), try context.buffer(byteCount: 12))
      try context.queue.write(order, [Int32(rows - 2)])
      let result = try context.buffer(byteCount: 4 * width)
      let problem = GatherProblem(
        source: .uint8, destination: .int32, rows: 1, width: width, dataRows: rows, positions: 1, component: 0)
      for variant in GatherProblem.variants where variant.takes(problem, context.profile) {
        let operands = Operands(outputs: [result], inputs: [data, order, cursor])
        for launch in try variant.bind(problem, operands, context) {
          try context.compile(launch).enqueue(on: context.queue)
        }
        #expect(
          try context.queue.read(result, as: Int32.self, count: width) == row.map { Int32($0) }, "\(variant.name)")
      }
    }
  }
}

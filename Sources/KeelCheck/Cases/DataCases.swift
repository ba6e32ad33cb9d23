import KeelCore
import KeelGraph
import KeelPrimitives

extension KernelCases {
  static func data(_ dtype: DType) -> [KernelCase] { gather(dtype) + transpose(dtype) + record(dtype) }

  private static func gather(_ dtype: DType) -> [KernelCase] {
    var cases: [KernelCase] = []
    func gather(
      _ title: String, _ source: DType?, _ destination: DType, _ row: Shape, rows: Int = 5, scale: Double = 1,
      cursor: Int = 0, order: CaseInput.Source = .integers(0..<23), values: CaseInput.Source
    ) {
      let data = CaseInput("data", Shape([23] + row.dimensions), values, dtype: source)
      let operation = Gather(rows: rows, dtype: destination, scale: scale)
      cases.append(
        KernelCase(
          GatherProblem.family, "\(title) \(rows) rows of \(row)", dtype,
          inputs: [data, CaseInput("order", [17], order, dtype: .int32, role: .control), .cursor(sample: cursor)],
          bound: Bound(eps: 1, of: .each)
        ) { t in ["batch": t.builder.append(.gather(operation), [t["data"], t["order"], t["cursor"]])[0]] }.fused())
    }
    for width in [1, 7, 8, 17, 784] {
      gather("u8 scaled", .uint8, dtype, [width], scale: 1 / 255.0, cursor: 3, values: .integers(0..<256))
      gather("real", nil, dtype, [width], cursor: 12, values: .normal)
    }
    for source in [DType.float16, .bfloat16] {
      for width in [1, 8, 17, 784] {
        gather("\(source) scaled", source, dtype, [width], scale: 0.3, cursor: 12, values: .normal)
      }
    }
    gather("images", .uint8, dtype, [2, 3, 5], rows: 1, values: .integers(0..<256))
    gather("labels i32", .int32, .int32, [], cursor: 5, values: .integers(-5..<1_000_000))
    gather("labels u8", .uint8, .int32, [], cursor: 5, values: .integers(0..<256))
    // More than CUDA has groups on any axis but the first.
    gather("many", .uint8, .int32, [3], rows: 65_537, values: .integers(0..<256))
    gather("past the end", .int32, .int32, [3], rows: 9, cursor: 14, values: .integers(0..<100))
    gather("before the beginning", .int32, .int32, [3], cursor: -4, values: .integers(0..<100))
    gather("rows that are not", nil, dtype, [9], order: .values([22, 23, -1, 1_000_000, 0]), values: .normal)
    return cases
  }

  private static func transpose(_ dtype: DType) -> [KernelCase] {
    let shapes: [(Shape, [Int])] = [
      ([5, 7], [1, 0]), ([64, 33], [1, 0]), ([1, 9], [1, 0]), ([3, 5, 7], [0, 2, 1]), ([3, 5, 7], [2, 0, 1]),
      ([3, 5, 7], [2, 1, 0]), ([2, 3, 8, 9], [0, 2, 3, 1]), ([2, 8, 9, 3], [0, 3, 1, 2]),
      ([2, 3, 4, 5], [3, 1, 0, 2]),
      ([2, 3, 4, 5], [3, 2, 1, 0]), ([4, 17, 16], [1, 0, 2]),
    ]
    return [nil, DType.int32, .float16, .bfloat16].flatMap { element -> [KernelCase] in
      // These are the same in both runs: once is enough.
      if element != nil, dtype == .float64 { return [] }
      return shapes.map { shape, permutation in
        KernelCase(
          TransposeProblem.family, "\(shape) to \(permutation)" + (element.map { " \($0)" } ?? ""), dtype,
          inputs: [CaseInput("x", shape, element == .int32 ? .integers(-99..<99) : .normal, dtype: element)],
          bound: .exact
        ) { t in ["y": t["x"].transpose(permutation)] }.fused()
      }
    }
  }

  private static func record(_ dtype: DType) -> [KernelCase] {
    // The row of the step; a table that is full stays as it is.
    let rows = (1...4).flatMap { columns in [0, 4, 5, -1].map { record(dtype, columns: columns, row: $0) } }
    return rows
      + NonFiniteStep.allCases.flatMap { choice in
        [0.5, .infinity, .nan].map { record(dtype, columns: 2, row: 3, loss: $0, choice) }
      }
  }

  private static func record(
    _ dtype: DType, columns: Int, row: Int, loss: Double? = nil, _ nonFinite: NonFiniteStep = .advance
  ) -> KernelCase {
    let values = (0..<columns).map {
      CaseInput("v\($0)", [], $0 == 0 ? loss.map { .values([$0]) } ?? .normal : .normal)
    }
    let title = "\(columns) values in row \(row) of 5" + (loss.map { ", loss \($0): \(nonFinite)" } ?? "")
    return KernelCase(
      RecordProblem.family, title, dtype,
      inputs: [CaseInput("history", [5, columns], role: .control), .cursor(sample: 40, stepInEpoch: row, step: 9)]
        + values, bound: .exact
    ) { t in
      let results = t.builder.append(
        .record(Record(rows: 8, nonFinite: nonFinite)), [t["history"], t["cursor"]] + values.map { t[$0.name] })
      t.builder.update(t["history"], with: results[0])
      t.builder.update(t["cursor"], with: results[1])
      return [:]
    }.fused()
  }
}

export class ZIM {}
export default ZIM;
